"""Tables and result files."""

from __future__ import annotations

import importlib
import json
import math
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from lcm_graph.files import write_atomically

_PACKAGES = ("lcm-graph", "torch", "torch-geometric", "numpy", "ogb")


def mean_std(values: Sequence[float]) -> str:
    """``"0.123 ± 0.004"``: mean and unbiased standard deviation, as OGB's leaderboards ask.

    One value has no standard deviation and is printed alone; so is a mean that is not finite.

    Raises:
        ValueError: ``values`` is empty.
    """
    if not values:
        raise ValueError("values must hold at least one number (got none)")
    mean = statistics.fmean(values)
    alone = len(values) < 2 or not math.isfinite(mean)
    return f"{mean:.3f}" if alone else f"{mean:.3f} ± {statistics.stdev(values):.3f}"


def format_table(headers: Sequence[str | int], rows: Sequence[Sequence[Any]]) -> str:
    """A plain-text table; floats with three decimals.

    Raises:
        ImportError: tabulate is not installed (extra ``plots``).
    """
    tabulate = import_extra("tabulate").tabulate
    table: str = tabulate(rows, headers=headers, floatfmt=".3f", disable_numparse=[0])
    return table


def commit(*, leaving_out: str = "docs") -> str:
    """The library's commit, ``-dirty`` where tracked files were changed since; ``unknown`` outside
    git.

    Args:
        leaving_out: folder whose changes do not count: where results are written, of which one is
            there before the next.
    """
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        if not git("ls-files", "--", Path(__file__).name):  # of a repository that is not ours
            return "unknown"
        found = git("rev-parse", "--short=12", "HEAD")
        changed = git(
            "status", "--porcelain", "--untracked-files=no", "--", ":/",
            f":(top,exclude){leaving_out}",
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{found}-dirty" if changed else found


def environment() -> dict[str, Any]:
    """What a result depends on besides its settings: versions, commit and hardware."""
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
    return {"versions": versions, "commit": commit(), "hardware": hardware}


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


def import_extra(name: str) -> Any:
    """Import a package of the extra ``plots``, or say how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{name} is needed for tables and figures; install it with: "
            f"pip install 'lcm-graph[plots]'"
        ) from error
