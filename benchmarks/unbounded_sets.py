"""Put the figures of the studies into docs/unbounded_sets.md, between its marks.

python -m benchmarks.unbounded_sets
"""

from __future__ import annotations

import json
import shlex
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.marks import fill_marks, markdown_table
from lcm_graph.study.config_file import parse_config
from lcm_graph.study.report import describe
from lcm_graph.study.tables import beside_constant, median_range
from lcm_graph.training import mean_std

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "unbounded_sets.md"
STUDIES = ("table2", "far16", "far", "full")
PAPER = {  # Ong & Veličković (2022), Table 2: n <= 16, n = 32, n = 200
    "gru": ("0.996 ± 0.001", "0.998 ± 0.001", "0.912 ± 0.017"),
    "lcm-assoc": ("0.997 ± 0.002", "0.997 ± 0.002", "0.822 ± 0.064"),
    "lcm": ("0.997 ± 0.001", "0.992 ± 0.005", "0.443 ± 0.122"),
    "pna": ("0.961 ± 0.003", "0.794 ± 0.012", "0.110 ± 0.027"),
    "max": ("0.901 ± 0.007", "0.723 ± 0.025", "0.069 ± 0.039"),
    "sum": ("0.845 ± 0.010", "0.261 ± 0.020", "0.045 ± 0.011"),
}
_NAMES = {
    "gru": "GRU",
    "lcm": "Binary-GRU",
    "lcm-assoc": "Binary-GRU-Assoc",
    "pna": "PNA",
    "max": "Max",
    "sum": "Sum",
}
Study = dict[str, Any]


def main() -> None:
    """Rewrite what is between the page's marks."""
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def fill(text: str) -> str:
    """Replace what is between ``<!-- study block -->`` and ``<!-- / -->`` by that block.

    A study that there is no file of leaves its marks as they are.

    Raises:
        ValueError: there is no such study or block.
    """

    def render(name: str, block: str) -> str | None:
        if name not in STUDIES or block not in BLOCKS:
            raise ValueError(
                f"a mark must name one of {', '.join(STUDIES)} and one of {', '.join(BLOCKS)} "
                f"(got {name!r} and {block!r})"
            )
        path = DOCS / "study" / name / "results.json"
        return BLOCKS[block](json.loads(path.read_text("utf-8"))) if path.exists() else None

    return fill_marks(text, render)


def source(study: Study) -> str:
    """The command, and what it ran on."""
    results = study["results"]
    taken: dict[str, list[float]] = {}
    for run in results["runs"]:
        taken.setdefault(run["subject"], []).append(_seconds(run))
    hours = sum(map(sum, taken.values())) / 3600
    at_medians = sum(len(some) * statistics.median(some) for some in taken.values()) / 3600
    torches = sorted({where["versions"]["torch"] for where in results["environments"]})
    config = parse_config(study["settings"] | {"tasks": _tasks(study)})
    return (
        f"`{shlex.join(study['command'])}`: "
        f"{describe(config, results['finished'], results['planned'])} {hours:.1f} hours of "
        f"training and tests on single cores ({at_medians:.1f}, had each run taken the median time "
        f"of its aggregation), torch {', '.join(torches)}."
    )


def _seconds(run: dict[str, Any]) -> float:
    """Of training and tests."""
    tests = sum(
        seconds * int(size) * (run["test_sets"].get(size) or 0)
        for size, seconds in (run["seconds_per_element"] or {}).items()
        if seconds
    )
    return float(run["train_seconds"] + tests)


def paper(study: Study) -> str:
    """The paper's Table 2, and ours."""
    found = study["results"]["accuracy"]["second_minimum"]
    rows = [["", "paper, n ≤ 16", "32", "200", "here, n ≤ 16", "32", "200"]]
    for subject, theirs in PAPER.items():
        sizes = found[subject]
        small = [statistics.fmean(seeds) for seeds in zip(*_up_to(sizes, 16), strict=True)]
        ours = [mean_std(small), mean_std(sizes["32"]), mean_std(sizes["200"])]
        rows.append([_NAMES[subject], *theirs, *ours])
    trivial = study["results"]["trivial"]["second_minimum"]
    small_sets = statistics.fmean(value for size, value in trivial.items() if int(size) <= 16)
    constant = [f"{value:.3f}" for value in (small_sets, trivial["32"], trivial["200"])]
    rows.append(["*best constant*", "", "", "", *constant])
    return markdown_table(rows)


def accuracy(study: Study) -> str:
    """Accuracy of each subject on each task, by size."""
    results = study["results"]
    sizes = [str(size) for size in study["settings"]["test_sizes"]]
    rows = [["task", "", *sizes]]
    for task, subjects in results["accuracy"].items():
        trivial = results["trivial"][task]
        lines = {
            f"`{name}`": [beside_constant(line.get(size), trivial.get(size)) for size in sizes]
            for name, line in subjects.items()
        }
        lines["*best constant*"] = [f"{trivial[s]:.3f}" if s in trivial else "-" for s in sizes]
        last = {
            f"`{name}`": statistics.fmean(line.get(sizes[-1]) or [0.0])
            for name, line in subjects.items()
        }
        last["*best constant*"] = trivial.get(sizes[-1], 0.0)
        rows += [[task, name, *lines[name]] for name in sorted(lines, key=lambda name: -last[name])]
    return f"{markdown_table(rows)}\n\nIn parentheses: no better than the best constant answer."


def associativity(study: Study) -> str:
    """Relative associativity error beside accuracy."""
    parts = []
    size = study["settings"]["rank_sizes"][0]
    for task, found in study["results"]["associativity"].items():
        rows = [["", "error after epoch 1", "at the end", f"accuracy, n = {size}"]]
        for line in found["subjects"]:
            first = "-" if line["first"] is None else f"{line['first']:.3g}"
            rows.append(
                [f"`{line['subject']}`", first, f"{line['last']:.3g}", mean_std(line["accuracy"])]
            )
        gamma = "not defined" if found["gamma"] is None else f"{found['gamma']:.2f}"
        parts.append(
            f"{markdown_table(rows)}\n\n"
            f"Goodman and Kruskal's γ over the runs of {task}: {gamma}. At 1, of any two runs the "
            "less associative is the less accurate."
        )
    return "\n\n".join(parts)


def ranks(study: Study) -> str:
    """Ranks on all tasks, at each size."""
    parts = []
    for size, tasks in study["results"]["places"].items():
        standings = study["results"]["standings"][size]
        rows = [[f"n = {size}", *tasks, "mean rank", "first or near"]]
        for name, standing in standings.items():
            cells = []
            for places in tasks.values():
                place = places.get(name)
                near = "*" if place and place["is_near_first"] else ""
                cells.append(f"{near}{place['rank']}{near}" if place else "-")
            share = f"{standing['near_first'] * standing['tasks']:.0f} of {standing['tasks']}"
            rows.append([f"`{name}`", *cells, f"{standing['mean_rank']:.2f}", share])
        parts.append(markdown_table(rows))
    return "\n\n".join(parts)


def best(study: Study) -> str:
    """The mix beside the best of the others, task by task, at each size that is ranked."""
    results = study["results"]
    sizes = [str(size) for size in study["settings"]["rank_sizes"]]
    rows = [["task", *(head for size in sizes for head in (f"mix, n = {size}", "best other"))]]
    for task, subjects in results["accuracy"].items():
        cells = []
        for size in sizes:
            lines = {name: line[size] for name, line in subjects.items() if line.get(size)}
            mix = lines.pop("mix")
            first = max(lines, key=lambda name: statistics.fmean(lines[name]))
            cells += [mean_std(mix), f"{mean_std(lines[first])} (`{first}`)"]
        rows.append([task, *cells])
    return markdown_table(rows)


def costs(study: Study) -> str:
    """Parameters, and seconds of training."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for run in study["results"]["runs"]:
        runs.setdefault(run["subject"], []).append(run)
    rows = [["", "parameters", "training, s"]]
    for name, had in runs.items():
        parameters = statistics.fmean(run["parameters"] for run in had)
        seconds = median_range([run["train_seconds"] for run in had])
        rows.append([f"`{name}`", f"{parameters:,.0f}", seconds])
    return (
        f"{markdown_table(rows)}\n\n"
        "Seconds of a run's training: median, least and most. Two ran side by side, on a machine "
        "that did other things too."
    )


BLOCKS: dict[str, Callable[[Study], str]] = {
    "source": source,
    "paper": paper,
    "accuracy": accuracy,
    "associativity": associativity,
    "ranks": ranks,
    "best": best,
    "costs": costs,
}


def _tasks(study: Study) -> dict[str, dict[str, Any]]:
    """The tasks as a configuration's file has them."""
    return {
        task["name"]: {key: value for key, value in task.items() if key != "name"}
        for task in study["settings"]["tasks"]
    }


def _up_to(sizes: dict[str, list[float]], most: int) -> list[list[float]]:
    return [seeds for size, seeds in sizes.items() if int(size) <= most]


if __name__ == "__main__":
    main()
