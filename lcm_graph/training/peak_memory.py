"""How much memory something takes at most."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


class Peak:
    """What :func:`peak_memory` gives: ``growth`` is known at the end of the block, in bytes."""

    growth: int = 0


@contextmanager
def peak_memory(device: str | torch.device = "cpu") -> Iterator[Peak]:
    """Measure by how many bytes memory grows at most in a ``with`` block.

    On CPU, the process's resident memory: measure in a fresh process, since memory that was freed
    before and kept by the allocator is used again unseen. On a CUDA device, what torch allocates.

    Args:
        device: whose memory.
    """
    device, peak = torch.device(device), Peak()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak.growth = torch.cuda.max_memory_allocated(device) - before
        return
    _return_free_memory()
    before = _resident()
    _reset_peak()
    yield peak
    peak.growth = max(0, _peak() - before)


def _return_free_memory() -> None:
    """Hand freed memory back to the system, so that using it again counts (glibc only)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


# Linux can forget a process's peak, so that the peak is that of the block alone. `ru_maxrss` cannot
# be reset, and a new process inherits its parent's, so it serves only where there is no /proc.


def _resident() -> int:
    return _status("VmRSS") or _maxrss()


def _peak() -> int:
    return _status("VmHWM") or _maxrss()


def _reset_peak() -> None:
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def _status(field: str) -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    for line in status.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


def _maxrss() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
