"""What a study leaves behind: tables to read, figures to look at, numbers to go on with."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lcm_graph.study.associativity_and_accuracy import associativity, gamma
from lcm_graph.study.config import StudyConfig
from lcm_graph.study.figures import draw_figures
from lcm_graph.study.ranking import places_by_task, standings
from lcm_graph.study.run_files import Run, finished_runs
from lcm_graph.study.subjects import SUBJECTS
from lcm_graph.study.summary import alone_and_batched, by_size, trivial_accuracy
from lcm_graph.study.tables import (
    accuracy_table,
    alone_table,
    associativity_table,
    cost_table,
    rank_table,
)
from lcm_graph.training import write_atomically, write_results


def write_report(config: StudyConfig, out: Path, command: Sequence[str]) -> str:
    """Write ``report.md``, ``results.json`` and ``figures/`` from the finished runs in ``out``.

    Args:
        config: the study; its runs that are not there yet are left out, and counted.
        out: its folder.
        command: what was asked for, to be recorded.

    Returns:
        The text of ``report.md``.

    Raises:
        ValueError: there is no run yet, or one was made with other settings.
        ImportError: matplotlib or tabulate is not installed (extra ``plots``).
        OSError: a file cannot be written.
    """
    runs = finished_runs(config, out)
    if not runs:
        raise ValueError(f"{out} holds no run of this study yet; run it without --report-only")
    write_results(
        out / "results.json",
        command=command,
        settings=asdict(config),
        results=_numbers(config, runs),
    )
    figures = draw_figures(out / "figures", runs, _train_sizes(config), config.rank_sizes[0])
    text = _text(config, runs, command, [path.relative_to(out).as_posix() for path in figures])
    write_atomically(out / "report.md", text.encode())
    return text


def _text(
    config: StudyConfig, runs: Sequence[Run], command: Sequence[str], figures: Sequence[str]
) -> str:
    parts = [
        "# Study",
        f"`{shlex.join(command)}`: {describe(config, len(runs), len(config.runs()))}",
        "Accuracy is the mean ± unbiased standard deviation over seeds; in parentheses where a "
        "constant answer does as well.",
    ]
    for size in config.rank_sizes:
        parts += [f"## Ranks on sets of {size}", rank_table(runs, size)]
    parts += [
        "\\* first, or its mean accuracy is within one standard error of the best mean: that over "
        "seeds, or over test sets where that is larger.",
        "## Accuracy by set size",
    ]
    for task in dict.fromkeys(run.task for run in runs):
        parts += [f"### {task}", accuracy_table(runs, task)]
    if any(run.result["associativity_error"] for run in runs):
        parts += ["## Associativity", *_associativity(config, runs)]
    if any(run.result["alone"] for run in runs):
        parts += [
            "## The same sets alone / in a batch with sets of the other sizes",
            alone_table(runs),
        ]
    parts += ["## Cost", cost_table(runs)]
    names = dict.fromkeys(run.subject for run in runs)
    parts += ["## Subjects", "\n".join(f"- `{name}`: {SUBJECTS[name].note}" for name in names)]
    parts += ["## Figures", "\n\n".join(f"![{path}]({path})" for path in figures)]
    reasons = _reasons(runs)
    if reasons:
        parts += ["## Left out", "\n".join(f"- {reason}" for reason in reasons)]
    return "\n\n".join(parts) + "\n"


def describe(config: StudyConfig, finished: int, planned: int) -> str:
    """How the runs were trained and tested, in a sentence or two."""
    counts = {size: config.num_test_sets(size) for size in sorted(config.test_sizes)}
    fewer = [f"of {size:,}: {n:,}" for size, n in counts.items() if n < config.test_sets]
    but = f" ({', '.join(fewer)})" if fewer else ""
    return (
        f"{finished} of {planned} runs, seeds {', '.join(map(str, config.seeds))}. Trained on "
        f"{config.epochs} × {config.train_sets:,} sets of up to {config.max_train_size} in batches "
        f"of {config.batch_size} by {config.optimizer} up to a learning rate of {config.lr:g}, "
        f"{config.hidden} wide; tested on {config.test_sets:,} sets of each size{but} and seed."
    )


def _associativity(config: StudyConfig, runs: Sequence[Run]) -> list[str]:
    size = config.rank_sizes[0]
    parts = [
        "The relative associativity error on validation sets, after the first epoch and of the "
        f"tested weights, beside the accuracy on sets of {size}; means over seeds. γ (Goodman and "
        "Kruskal) is 1 where of any two runs the less associative is the less accurate, and -1 "
        "where it is the more accurate."
    ]
    for task, lines in associativity(runs, size).items():
        found = gamma(lines)
        title = f"### {task}: γ " + ("is not defined" if found is None else f"= {found:.2f}")
        parts += [title, associativity_table(lines, size)]
    return parts


def _numbers(config: StudyConfig, runs: Sequence[Run]) -> dict[str, Any]:
    """All that tables and figures show, and every run; its training history is in its file."""
    placed = {size: places_by_task(runs, size) for size in config.rank_sizes}
    environments: list[dict[str, Any]] = []
    for run in runs:
        if run.environment not in environments:
            environments.append(run.environment)
    return {
        "finished": len(runs),
        "planned": len(config.runs()),
        "environments": environments,
        "accuracy": by_size(runs, "accuracy"),
        "trivial": trivial_accuracy(runs),
        "places": {
            size: {
                task: {name: place._asdict() for name, place in subjects.items()}
                for task, subjects in tasks.items()
            }
            for size, tasks in placed.items()
        },
        "standings": {
            size: {name: standing._asdict() for name, standing in standings(tasks).items()}
            for size, tasks in placed.items()
        },
        "associativity": {
            task: {"gamma": gamma(lines), "subjects": [line._asdict() for line in lines]}
            for task, lines in associativity(runs, config.rank_sizes[0]).items()
        },
        "alone": alone_and_batched(runs),
        "runs": [
            {"task": run.task, "subject": run.subject, "seed": run.seed, **_without_history(run)}
            for run in runs
        ],
    }


def _without_history(run: Run) -> dict[str, Any]:
    return {key: value for key, value in run.result.items() if key != "history"}


def _train_sizes(config: StudyConfig) -> tuple[int, int]:
    least = min(task.set_function.min_size for task in config.tasks)
    return least, config.max_train_size


def _reasons(runs: Sequence[Run]) -> list[str]:
    """Why there is no accuracy somewhere, each reason once."""
    found: dict[str, None] = {}
    for run in runs:
        for size, reason in run.result["reasons"].items():
            found[f"`{run.subject}`, {run.task}, sets of {size}: {reason}"] = None
        if run.result["diverged"] is not None:
            found[f"`{run.subject}`, {run.task}, seed {run.seed}: {run.result['diverged']}"] = None
    return list(found)
