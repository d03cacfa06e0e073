"""The tables of a study, in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from lcm_graph.study.associativity_and_accuracy import AssociativityLine
from lcm_graph.study.ranking import places_by_task, standings
from lcm_graph.study.run_files import Run
from lcm_graph.study.summary import alone_and_batched, by_size, trivial_accuracy
from lcm_graph.training import mean_std
from lcm_graph.training.report import import_extra

_NONE = "-"
TRIVIAL = "best constant answer"


def accuracy_table(runs: Sequence[Run], task: str) -> str:
    """Accuracy on one task: subject × size, mean ± unbiased standard deviation over seeds.

    In parentheses: no better than the best constant answer.
    """
    subjects, trivial = by_size(runs, "accuracy")[task], trivial_accuracy(runs)[task]
    sizes = sorted({size for line in subjects.values() for size in line} | trivial.keys())
    rows = [
        [name, *(beside_constant(line.get(size), trivial.get(size)) for size in sizes)]
        for name, line in subjects.items()
    ]
    rows.append([TRIVIAL, *(f"{trivial[s]:.3f}" if s in trivial else _NONE for s in sizes)])
    return _markdown(["", *sizes], rows)


def beside_constant(accuracy: Sequence[float] | None, trivial: float | None) -> str:
    """Mean ± standard deviation; in parentheses if a constant does as well."""
    if not accuracy:
        return _NONE
    text = mean_std(accuracy)
    return f"({text})" if trivial is not None and statistics.fmean(accuracy) <= trivial else text


def median_range(values: Sequence[float]) -> str:
    """``"12 (10-15)"``: median, least and most."""
    if len(values) == 1:
        return f"{values[0]:.0f}"
    return f"{statistics.median(values):.0f} ({min(values):.0f}-{max(values):.0f})"


def rank_table(runs: Sequence[Run], size: int) -> str:
    """Ranks at one size: subject × task, the best mean rank first.

    A star marks what is first or within noise of the first, see
    :func:`lcm_graph.study.ranking.places`; the last columns count these over tasks.
    """
    placed = places_by_task(runs, size)
    rows = []
    for name, standing in standings(placed).items():
        cells = [
            f"{place.rank}{'*' if place.is_near_first else ''}" if place else _NONE
            for place in (subjects.get(name) for subjects in placed.values())
        ]
        shares = [f"{share:.0%}" for share in (standing.first, standing.near_first)]
        rows.append([name, *cells, f"{standing.mean_rank:.2f}", *shares])
    return _markdown(["", *placed, "mean rank", "first", "first or near"], rows)


def alone_table(runs: Sequence[Run]) -> str:
    """Accuracy of the same sets alone / in company, and by how much the outputs move: means over
    tasks and seeds, subject × size."""
    tests = alone_and_batched(runs)
    sizes = sorted({size for line in tests.values() for size in line})
    rows = []
    for name, line in tests.items():
        cells = [
            f"{line[size]['alone']:.3f} / {line[size]['batched']:.3f}" if size in line else _NONE
            for size in sizes
        ]
        change = max(test["change"] for test in line.values())
        rows.append([name, *cells, f"{change:.0e}"])
    return _markdown(["", *sizes, "largest change"], rows)


def associativity_table(lines: Sequence[AssociativityLine], size: int) -> str:
    """Relative associativity error and accuracy on sets of ``size``, of each subject."""
    rows = [
        [line.subject, _error(line.first), _error(line.last), mean_std(line.accuracy)]
        for line in lines
    ]
    return _markdown(["", "error after epoch 1", "at the end", f"accuracy, {size}"], rows)


def _error(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3g}"


def cost_table(runs: Sequence[Run]) -> str:
    """Parameters, a mean over tasks and seeds, and time, their median and range."""
    collected: dict[str, list[Run]] = {}
    for run in runs:
        collected.setdefault(run.subject, []).append(run)
    rows = [
        [
            name,
            round(statistics.fmean(run.result["parameters"] for run in had)),
            median_range([run.result["train_seconds"] for run in had]),
            len(had),
            sum(run.result["diverged"] is not None for run in had),
        ]
        for name, had in collected.items()
    ]
    return _markdown(["", "parameters", "training, s", "runs", "diverged"], rows)


def _markdown(headers: Sequence[str | int], rows: Sequence[Sequence[Any]]) -> str:
    align = ["left", *["right"] * (len(headers) - 1)]
    tabulate = import_extra("tabulate").tabulate
    table: str = tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=align)
    return table
