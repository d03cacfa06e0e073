"""The figures of a study."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from lcm_graph.study.run_files import Run
from lcm_graph.study.summary import by_size, trivial_accuracy
from lcm_graph.study.tables import TRIVIAL
from lcm_graph.training import plot_generalisation, plot_lines, plot_points

_ERROR = "relative associativity error"


def draw_figures(
    folder: Path, runs: Sequence[Run], train_sizes: tuple[int, int], size: int
) -> list[Path]:
    """Write all figures that the runs have something for.

    ``accuracy-TASK.png`` (against set size), ``associativity-TASK.png`` (error against epoch),
    ``error-and-accuracy.png`` (both for each run, the accuracy on sets of ``size``)
    and ``evaluation-time.png`` (against set size).

    Returns:
        The files, in the order in which a report shows them.

    Raises:
        ImportError: matplotlib is not installed (extra ``plots``).
        OSError: a file cannot be written.
    """
    return [
        *_accuracy(folder, runs, train_sizes),
        *_associativity(folder, runs),
        *_associativity_and_accuracy(folder, runs, size),
        *_time(folder, runs),
    ]


def _accuracy(folder: Path, runs: Sequence[Run], train_sizes: tuple[int, int]) -> list[Path]:
    trivial, paths = trivial_accuracy(runs), []
    for task, subjects in by_size(runs, "accuracy").items():
        lines = {
            name: {size: statistics.fmean(values) for size, values in sizes.items()}
            for name, sizes in subjects.items()
        }
        paths.append(folder / f"accuracy-{task}.png")
        label = f"{task}: accuracy"
        plot_generalisation(paths[-1], lines | {TRIVIAL: trivial[task]}, train_sizes, label)
    return paths


def _associativity(folder: Path, runs: Sequence[Run]) -> list[Path]:
    collected: dict[str, dict[str, dict[int, list[float]]]] = {}
    for run in runs:
        for epoch, error in enumerate(run.result["associativity_by_epoch"] or [], 1):
            if error:
                lines = collected.setdefault(run.task, {}).setdefault(run.subject, {})
                lines.setdefault(epoch, []).append(error)
    paths = []
    for task, subjects in collected.items():
        paths.append(folder / f"associativity-{task}.png")
        plot_lines(
            paths[-1],
            {
                name: {epoch: statistics.fmean(errors) for epoch, errors in line.items()}
                for name, line in subjects.items()
            },
            xlabel="epoch",
            ylabel=f"{task}: {_ERROR}",
            log_y=True,
        )
    return paths


def _associativity_and_accuracy(folder: Path, runs: Sequence[Run], size: int) -> list[Path]:
    points: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        error, accuracy = run.result["associativity_error"], run.result["accuracy"].get(str(size))
        if error and accuracy is not None:
            points.setdefault(run.subject, []).append((error, accuracy))
    if not points:
        return []
    path = folder / "error-and-accuracy.png"
    label = f"accuracy on sets of {size}, a point for each task and seed"
    plot_points(path, points, xlabel=_ERROR, ylabel=label, log_x=True)
    return [path]


def _time(folder: Path, runs: Sequence[Run]) -> list[Path]:
    collected: dict[str, dict[int, list[float]]] = {}
    for subjects in by_size(runs, "seconds_per_element").values():
        for name, sizes in subjects.items():
            for size, values in sizes.items():
                collected.setdefault(name, {}).setdefault(size, []).extend(values)
    if not any(collected.values()):
        return []
    path = folder / "evaluation-time.png"
    plot_lines(
        path,
        {
            name: {size: 1e6 * statistics.fmean(values) for size, values in sizes.items()}
            for name, sizes in collected.items()
        },
        xlabel="set size",
        ylabel="µs per element",
        log_x=True,
        log_y=True,
    )
    return [path]
