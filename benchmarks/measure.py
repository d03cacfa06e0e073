"""Measuring: time, peak memory, and what the figures were measured on."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch_geometric

import lcm_graph
from lcm_graph.training import peak_memory
from lcm_graph.training.report import commit

RESULTS = Path(__file__).parent / "results"

T = TypeVar("T")


def interleaved_seconds(
    calls: Mapping[str, Callable[[], object]],
    repeats: Mapping[str, int],
    warmup: Mapping[str, int],
) -> dict[str, dict[str, float]]:
    """Time calls against each other: one repeat of each in turn, so that all see the same machine.

    Args:
        calls: what to time, by name.
        repeats: how often each is timed.
        warmup: how often each is called before.

    Returns:
        By name, the ``median``, ``min`` and ``max`` seconds and the number of ``repeats``.
    """
    for name, call in calls.items():
        for _ in range(warmup[name]):
            call()
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(max(repeats[name] for name in calls)):
        for name, call in calls.items():
            if repeat < repeats[name]:
                gc.collect()
                start = time.perf_counter()
                call()
                samples[name].append(time.perf_counter() - start)
    return {
        name: {
            "median": statistics.median(times),
            "min": min(times),
            "max": max(times),
            "repeats": len(times),
        }
        for name, times in samples.items()
    }


def peak_growth(call: Callable[[], object]) -> int:
    """Bytes by which the process's resident memory grows at most during ``call``.

    Call it in a fresh process: memory that was freed before and kept by the allocator would be used
    again unseen.
    """
    with peak_memory() as peak:
        call()
    return peak.growth


def in_subprocess(function: Callable[..., T], *args: Any) -> T:
    """Call a module's function in a fresh process of its own.

    Raises:
        concurrent.futures.process.BrokenProcessPool: it was killed, as it is when memory runs out.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as pool:
        return pool.submit(function, *args).result()


def environment(command: str) -> dict[str, Any]:
    """Versions, hardware, commit and command."""
    return {
        "command": command,
        "commit": commit(leaving_out="benchmarks/results"),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_geometric": torch_geometric.__version__,
        "lcm_graph": lcm_graph.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    }


def write_json(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result, indented."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {os.path.relpath(path)}")


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Print columns: the first to the left, the others to the right."""
    widths = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]
    for row in [header, ["-" * width for width in widths], *rows]:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join(cells).rstrip())


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"
