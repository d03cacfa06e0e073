"""Put the figures of the comparisons on real graphs into the pages of docs that tell of them.

python -m benchmarks.real_graphs
"""

from __future__ import annotations

import json
import math
import shlex
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.marks import NOT_MEASURED, fill_marks, markdown_table
from lcm_graph.training import LABELS, mean_std
from lcm_graph.training.figures import plot_lines

DOCS = Path(__file__).parent.parent / "docs"
RESULTS = DOCS / "real_graphs"
PAGES = (DOCS / "real_graphs.md", DOCS / "which_aggregator.md")
CURVES = RESULTS / "pna_multitask" / "larger.png"
Comparison = dict[str, Any]  # what a script writes as results.json
Run = dict[str, Any]


class Metric(NamedTuple):
    """What a comparison's test score is."""

    name: str
    maximize: bool


METRICS = {
    "pna_multitask": Metric("mean log₁₀ MSE", maximize=False),
    "molhiv": Metric("ROC-AUC", maximize=True),
    "molesol": Metric("RMSE", maximize=False),
    "mollipo": Metric("RMSE", maximize=False),
    "cora": Metric("accuracy", maximize=True),
    "debian_deps": Metric("accuracy", maximize=True),
    "debian_deps_gru": Metric("accuracy", maximize=True),
    "debian_deps_pyg": Metric("accuracy", maximize=True),
    "debian_files": Metric("accuracy", maximize=True),
    "reddit": Metric("accuracy", maximize=True),
}
COMPARED = (
    "pna_multitask",
    "molesol",
    "mollipo",
    "molhiv",
    "cora",
    "debian_deps",
    "debian_files",
    "reddit",
)
PAPER = {  # Ong & Veličković (2022), Table 1: the mean of the six labels
    "sum": -2.50,
    "max": -2.53,
    "pna": -3.09,
    "gru": -2.91,
    "lcm": -3.00,
    "lcm-assoc": -2.95,
}


def main() -> None:
    """Rewrite what is between the pages' marks, and draw the figure."""
    for page in PAGES:
        page.write_text(fill(page.read_text(encoding="utf-8")), encoding="utf-8")
    if _path("pna_multitask").exists():
        draw_larger(_read("pna_multitask"), CURVES)


def fill(text: str) -> str:
    """Put the block between the marks ``<!-- comparison block -->`` and ``<!-- / -->``, or what
    ``<!-- all block -->`` says of all of :data:`COMPARED`.

    Raises:
        ValueError: there is no such comparison or block.
    """

    def render(name: str, block: str) -> str:
        if name == "all" and block in OVERVIEWS:
            measured = [name for name in COMPARED if _path(name).exists()]
            return OVERVIEWS[block]({name: _read(name) for name in measured})
        if name not in METRICS or block not in BLOCKS:
            raise ValueError(
                f"a mark must name one of {', '.join(METRICS)} and one of {', '.join(BLOCKS)} "
                f"(got {name!r} and {block!r})"
            )
        if not _path(name).exists():
            return NOT_MEASURED
        return BLOCKS[block](_read(name), METRICS[name])

    return fill_marks(text, render)


def source(comparison: Comparison, metric: Metric) -> str:
    """The command, and what it ran on."""
    results = comparison["results"]
    where = [run for runs in results["environments"].values() for run in runs]
    torches = sorted({run["versions"]["torch"] for run in where})
    epochs = comparison["settings"]["epochs"]
    hours = sum(
        run["seconds_per_epoch"] * epochs for runs in _done(comparison).values() for run in runs
    )
    return (
        f"`{shlex.join(comparison['command'])}`: {hours / 3600:.1f} hours of training on single "
        f"cores, torch {', '.join(torches)}."
    )


def table(comparison: Comparison, metric: Metric) -> str:
    """Score, parameters, time and memory of each aggregation."""
    bold = leader(comparison, metric)
    rows = [["", f"test {metric.name}", "validation", "parameters", "s/epoch", "MiB/step"]]
    for aggr, asked in comparison["results"]["runs"].items():
        runs = _done(comparison).get(aggr)
        if runs is None:
            rows.append([f"`{aggr}`", "failed", *["–"] * 4])
            continue
        score = mean_std([run["test"] for run in runs])
        seconds = min(run["seconds_per_epoch"] for run in runs)  # least disturbed by other work
        rows.append(
            [
                f"`{aggr}`" + (f" ({len(runs)} of {len(asked)})" if len(runs) < len(asked) else ""),
                f"**{score}**" if aggr == bold else score,
                mean_std([run["valid"] for run in runs]),
                f"{statistics.fmean(run['parameters'] for run in runs):,.0f}",
                f"{seconds:.1f}",
                f"{statistics.median(run['step_mib'] for run in runs):,.0f}",
            ]
        )
    return markdown_table(rows)


def paper(comparison: Comparison, metric: Metric) -> str:
    """The paper's mean beside ours, and our six labels."""
    done = _done(comparison)
    rows = [["", "paper", "here", *(label.replace("_", " ") for label in LABELS)]]
    for aggr, runs in done.items():
        theirs = f"{PAPER[aggr]:.2f}" if aggr in PAPER else ""
        labels = (statistics.fmean(run["labels"][label] for run in runs) for label in LABELS)
        rows.append(
            [
                f"`{aggr}`",
                theirs,
                mean_std([run["test"] for run in runs]),
                *(f"{label:.2f}" for label in labels),
            ]
        )
    return markdown_table(rows)


def larger(comparison: Comparison, metric: Metric) -> str:
    """Errors on larger graphs, over those of the training means: the median of the seeds."""
    lines = _larger(comparison)
    sizes = list(next(iter(lines.values())))
    rows = [["nodes", *sizes]]
    for aggr, line in lines.items():
        rows.append([f"`{aggr}`", *(f"{value:.2f}" for value in line.values())])
    return f"{markdown_table(rows)}\n\n![errors on larger graphs]({CURVES.relative_to(DOCS)})"


def failures(comparison: Comparison, metric: Metric) -> str:
    """What the runs that failed said."""
    lines = []
    for aggr, runs in comparison["results"]["runs"].items():
        for message in {run["failed"] for run in runs if "failed" in run}:
            lines.append(f"{aggr}: {message}")
    return "\n".join(["```text", *lines, "```"])


def commonest(comparison: Comparison, metric: Metric) -> str:
    """What the best constant answer scores."""
    found = {run["commonest"] for runs in _done(comparison).values() for run in runs}
    return f"The commonest class of training is right for {statistics.fmean(found):.3f}."


BLOCKS: dict[str, Callable[[Comparison, Metric], str]] = {
    "source": source,
    "table": table,
    "paper": paper,
    "larger": larger,
    "failures": failures,
    "commonest": commonest,
}


def scores(comparisons: Mapping[str, Comparison]) -> str:
    """What each aggregation scored in each comparison."""
    heads = []
    for name in comparisons:
        metric = METRICS[name]
        heads.append(f"{name}: {metric.name}, {'higher' if metric.maximize else 'lower'} is better")

    def cell(name: str, aggr: str) -> str:
        score = f"{statistics.fmean(run['test'] for run in _done(comparisons[name])[aggr]):.3f}"
        return f"**{score}**" if aggr == leader(comparisons[name], METRICS[name]) else score

    return _overview(heads, comparisons, cell)


def costs(comparisons: Mapping[str, Comparison]) -> str:
    """Time and memory of a training step, over those of the cheapest."""

    def cell(name: str, aggr: str) -> str:
        ratios = []
        for what, of in (("seconds_per_epoch", min), ("step_mib", statistics.median)):
            found = {
                one: of(run[what] for run in runs) for one, runs in _done(comparisons[name]).items()
            }
            ratios.append(f"{found[aggr] / min(found.values()):.1f}×")
        return " / ".join(ratios)

    return _overview([f"{name}: time / memory" for name in comparisons], comparisons, cell)


def _overview(
    heads: Sequence[str],
    comparisons: Mapping[str, Comparison],
    cell: Callable[[str, str], str],
) -> str:
    known = ("sum", "mean", "max", "pna", "gru", "lcm", "lcm-assoc", "mix")
    asked = {name: each["results"]["runs"].keys() for name, each in comparisons.items()}
    rows = [["", *heads]]
    for aggr in known:
        cells = []
        for name, each in comparisons.items():
            failed = "failed" if aggr in asked[name] else "–"
            cells.append(cell(name, aggr) if aggr in _done(each) else failed)
        if set(cells) != {"–"}:
            rows.append([f"`{aggr}`", *cells])
    return markdown_table(rows)


OVERVIEWS: dict[str, Callable[[Mapping[str, Comparison]], str]] = {
    "scores": scores,
    "costs": costs,
}


def draw_larger(comparison: Comparison, path: Path) -> None:
    """Errors against the size of graphs; a line ends where an answer is no number."""
    lines = {
        aggr: {
            int(size.split("-")[0]): value for size, value in line.items() if math.isfinite(value)
        }
        for aggr, line in _larger(comparison).items()
    }
    plot_lines(
        path,
        lines,
        xlabel="nodes (and the four sizes after)",
        ylabel="log₁₀(MSE / training means' MSE)",
    )


def _larger(comparison: Comparison) -> dict[str, dict[str, float]]:
    lines = {}
    for aggr, runs in _done(comparison).items():
        sizes = runs[0]["larger"]
        found = {size: [run["larger"][size] for run in runs] for size in sizes}
        lines[aggr] = {
            size: statistics.median(math.inf if value is None else value for value in values)
            for size, values in found.items()
        }
    return lines


def leader(comparison: Comparison, metric: Metric) -> str | None:
    """What is :func:`clearly_best`; of a comparison with runs that failed nobody knows."""
    runs = comparison["results"]["runs"]
    if any("failed" in run for mine in runs.values() for run in mine):
        return None
    return clearly_best(
        {aggr: [run["test"] for run in mine] for aggr, mine in runs.items()}, metric
    )


def clearly_best(scores: Mapping[str, Sequence[float]], metric: Metric) -> str | None:
    """Whose mean leads that of every other by more than one standard error of the difference, if
    there is another."""
    if len(scores) < 2:
        return None
    sign = 1 if metric.maximize else -1
    first = max(scores, key=lambda name: sign * statistics.fmean(scores[name]))
    if any(len(values) < 2 for values in scores.values()):
        return None
    for other in scores.keys() - {first}:
        lead = sign * (statistics.fmean(scores[first]) - statistics.fmean(scores[other]))
        squared = sum(
            statistics.variance(scores[name]) / len(scores[name]) for name in (first, other)
        )
        if lead <= math.sqrt(squared):
            return None
    return first


def _done(comparison: Comparison) -> dict[str, list[Run]]:
    """Aggregation -> its runs that did not fail."""
    done = {
        aggr: [run for run in runs if "failed" not in run]
        for aggr, runs in comparison["results"]["runs"].items()
    }
    return {aggr: runs for aggr, runs in done.items() if runs}


def _path(name: str) -> Path:
    return RESULTS / name / "results.json"


def _read(name: str) -> Comparison:
    found: Comparison = json.loads(_path(name).read_text("utf-8"))
    return found


if __name__ == "__main__":
    main()
