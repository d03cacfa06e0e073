"""Figures, written as PNG files without touching matplotlib's global state."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

from lcm_graph.files import write_atomically
from lcm_graph.training.report import import_extra

_MARKERS = "osD^vP*X<>"  # as many as there are colours
_HEIGHT = 4.5  # inches
_DASHES = ("-", "--", ":", "-.")  # then the same colours and markers with other dashes


def plot_generalisation(
    path: str | os.PathLike[str],
    accuracy: Mapping[str, Mapping[int, float]],
    train_sizes: tuple[int, int],
    ylabel: str = "accuracy (all bits right)",
) -> None:
    """Draw accuracy against set size, one line per model, as a PNG file.

    Args:
        path: file to write (atomically).
        accuracy: model -> set size -> accuracy in [0, 1].
        train_sizes: smallest and largest training size, shaded.
        ylabel: name of the vertical axis.

    Raises:
        ImportError: matplotlib is not installed (extra ``plots``).
        OSError: the file cannot be written.
    """
    axes = _axes()
    axes.axvspan(*train_sizes, color="0.9", label=f"trained on {train_sizes[0]}-{train_sizes[1]}")
    _draw_lines(axes, accuracy)
    axes.set_xscale("log")
    sizes = sorted({size for line in accuracy.values() for size in line})
    axes.set_xticks(sizes, labels=[str(size) for size in sizes])
    axes.set_xticks([], minor=True)
    axes.set_ylim(-0.03, 1.03)
    _save(path, axes, "set size", ylabel)


def plot_lines(
    path: str | os.PathLike[str],
    lines: Mapping[str, Mapping[int, float]],
    *,
    xlabel: str,
    ylabel: str,
    log_x: bool = False,
    log_y: bool = False,
) -> None:
    """Draw one line per name through its points, x -> y, as a PNG file.

    Args:
        path: file to write (atomically).
        lines: name -> x -> y, positive on logarithmic axes.
        xlabel: name of the horizontal axis.
        ylabel: name of the vertical axis.
        log_x: whether the horizontal axis is logarithmic.
        log_y: whether the vertical axis is logarithmic.

    Raises:
        ImportError: matplotlib is not installed (extra ``plots``).
        OSError: the file cannot be written.
    """
    axes = _axes()
    _draw_lines(axes, lines)
    _scale(axes, log_x, log_y)
    _save(path, axes, xlabel, ylabel)


def plot_points(
    path: str | os.PathLike[str],
    points: Mapping[str, Sequence[tuple[float, float]]],
    *,
    xlabel: str,
    ylabel: str,
    log_x: bool = False,
    log_y: bool = False,
) -> None:
    """Draw the points ``(x, y)`` of each name, as a PNG file. See :func:`plot_lines`."""
    axes = _axes()
    for number, (name, cloud) in enumerate(points.items()):
        xs, ys = [x for x, _ in cloud], [y for _, y in cloud]
        axes.scatter(xs, ys, s=25, label=name, **_colour_and_marker(number))
    _scale(axes, log_x, log_y)
    _save(path, axes, xlabel, ylabel)


def _axes() -> Any:
    import_extra("matplotlib")
    from matplotlib.figure import Figure

    return Figure(figsize=(7, _HEIGHT), layout="constrained").add_subplot()


def _draw_lines(axes: Any, lines: Mapping[str, Mapping[int, float]]) -> None:
    for number, (name, line) in enumerate(lines.items()):
        xs = sorted(line)
        dashes = _DASHES[number // len(_MARKERS) % len(_DASHES)]
        style = _colour_and_marker(number)
        axes.plot(xs, [line[x] for x in xs], markersize=5, linestyle=dashes, label=name, **style)


def _colour_and_marker(number: int) -> dict[str, str]:
    place = number % len(_MARKERS)
    return {"color": f"C{place}", "marker": _MARKERS[place]}


def _scale(axes: Any, log_x: bool, log_y: bool) -> None:
    if log_x:
        axes.set_xscale("log")
    if log_y:
        axes.set_yscale("log")


def _save(path: str | os.PathLike[str], axes: Any, xlabel: str, ylabel: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.3)
    names = axes.get_legend_handles_labels()[1]
    axes.figure.set_figheight(max(_HEIGHT, 0.5 + 0.2 * len(names)))  # room for the legend
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize="small")
    buffer = io.BytesIO()
    FigureCanvasAgg(axes.figure).print_png(buffer)
    write_atomically(path, buffer.getvalue())
