"""Tables, figures and result files."""

from __future__ import annotations

import importlib
import io
import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from lcm_graph.training.checkpoint import write_atomically

_PACKAGES = ("lcm-graph", "torch", "torch-geometric", "numpy", "ogb")


def mean_std(values: Sequence[float]) -> str:
    """``"0.123 ± 0.004"``: mean and unbiased standard deviation, as OGB's leaderboards ask.

    One value has no standard deviation and is printed alone.

    Raises:
        ValueError: ``values`` is empty.
    """
    if not values:
        raise ValueError("values must hold at least one number (got none)")
    mean = statistics.fmean(values)
    return f"{mean:.3f}" if len(values) < 2 else f"{mean:.3f} ± {statistics.stdev(values):.3f}"


def format_table(headers: Sequence[str | int], rows: Sequence[Sequence[Any]]) -> str:
    """A plain-text table; floats with three decimals.

    Raises:
        ImportError: tabulate is not installed (extra ``plots``).
    """
    tabulate = _import_extra("tabulate").tabulate
    table: str = tabulate(rows, headers=headers, floatfmt=".3f", disable_numparse=[0])
    return table


def plot_generalisation(
    path: str | os.PathLike[str],
    accuracy: Mapping[str, Mapping[int, float]],
    train_sizes: tuple[int, int],
) -> None:
    """Draw accuracy against set size, one line per model, as a PNG file.

    Args:
        path: file to write (atomically).
        accuracy: model -> set size -> accuracy in [0, 1].
        train_sizes: smallest and largest training size, shaded.

    Raises:
        ImportError: matplotlib is not installed (extra ``plots``).
        OSError: the file cannot be written.
    """
    _import_extra("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    canvas = FigureCanvasAgg(figure)  # the Agg backend, without touching the global one
    axes = figure.add_subplot()
    axes.axvspan(*train_sizes, color="0.9", label=f"trained on {train_sizes[0]}-{train_sizes[1]}")
    sizes = sorted({size for line in accuracy.values() for size in line})
    markers = "osD^vP*X<>"
    for number, (name, line) in enumerate(accuracy.items()):
        xs = sorted(line)
        marker = markers[number % len(markers)]
        axes.plot(xs, [line[x] for x in xs], marker=marker, markersize=5, label=name)
    axes.set_xscale("log")
    axes.set_xticks(sizes, labels=[str(size) for size in sizes])
    axes.set_xticks([], minor=True)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("set size")
    axes.set_ylabel("accuracy (all bits right)")
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    write_atomically(path, buffer.getvalue())


def environment() -> dict[str, Any]:
    """What a result depends on besides its settings: versions and hardware."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    hardware = {
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    return {"versions": versions, "hardware": hardware}


def write_results(
    path: str | os.PathLike[str],
    *,
    command: Sequence[str],
    settings: Mapping[str, Any],
    results: Mapping[str, Any],
) -> None:
    """Write results as JSON, with the command, settings, versions and hardware.

    Raises:
        OSError: the file cannot be written.
    """
    content = {
        "command": list(command),
        "settings": dict(settings),
        **environment(),
        "results": dict(results),
    }
    text = json.dumps(content, indent=2, default=_plain) + "\n"
    write_atomically(path, text.encode())


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"results must be JSON-serialisable (got {type(value).__name__})")


def _import_extra(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{name} is needed for tables and figures; install it with: "
            f"pip install 'lcm-graph[plots]'"
        ) from error
