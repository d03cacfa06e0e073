"""Measuring on a GPU: time by events, peak memory, and what the machine can do at most."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

FLUSHED_BYTES = 2**28
"""Written before each timed call, so that it finds nothing of its own in the cache."""


class Format(NamedTuple):
    """A dtype, and how products of float32 are rounded."""

    dtype: torch.dtype
    precision: str | None = None


FORMATS = {
    "bf16": Format(torch.bfloat16),
    "fp16": Format(torch.float16),
    "tf32": Format(torch.float32, "tf32"),
    "fp32": Format(torch.float32, "ieee"),
}


@dataclass
class Bench:
    """What is measured on, how long there is, and what was left out."""

    device: torch.device
    quick: bool
    until: float  # of time.monotonic
    left_out: list[str] = field(default_factory=list)

    @property
    def remaining(self) -> float:
        """Seconds."""
        return self.until - time.monotonic()

    def has(self, seconds: float, what: str) -> bool:
        """Whether there is time for ``what``; otherwise it is noted as left out."""
        if self.remaining >= seconds:
            return True
        self.left_out.append(f"{what}: {max(self.remaining, 0):.0f} s were left")
        return False

    def pick(self, full: int, quick: int) -> int:
        """A size."""
        return quick if self.quick else full

    def formats(self, *names: str) -> tuple[str, ...]:
        """Names of formats; the first will do to see that it runs."""
        return names[:1] if self.quick else names

    def elements(self, n: int, channels: int, dtype: torch.dtype) -> Tensor:
        """Standard normal ``[n, channels]``."""
        return torch.randn(n, channels, device=self.device).to(dtype)


@contextmanager
def float32_products(name: str) -> Iterator[None]:
    """Let torch, cuDNN included, multiply float32 as format ``name`` says; others keep "tf32"."""
    precision, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest" if name == "fp32" else "high")
    torch.backends.cudnn.allow_tf32 = name != "fp32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = cudnn


def timed(
    bench: Bench,
    calls: Mapping[str, Callable[[], object]],
    *,
    budget: float = 0.5,
    repeats: int = 21,
) -> dict[str, dict[str, Any]]:
    """Time calls against each other: one repeat of each in turn.

    Args:
        bench: where.
        calls: what to time, by name. One that fails is left out, with the reason.
        budget: about how many seconds to spend on each.
        repeats: how often to time each at most; once at least.

    Returns:
        By name, ``median``, ``min`` and ``max`` seconds and the number of ``repeats``; or an
        ``error``.
    """
    stopwatch = Stopwatch(bench.device)
    found: dict[str, dict[str, Any]] = {}
    wanted: dict[str, int] = {}
    interpreted = bench.device.type == "cpu"  # nothing to warm up, and slow
    for name, call in calls.items():
        try:
            once = 0.0 if interpreted else min(stopwatch(call), stopwatch(call))
            wanted[name] = max(1, min(repeats, int(budget / max(once, 1e-9))))
            wanted[name] = 1 if interpreted else min(wanted[name], 3 if bench.quick else repeats)
        except Exception as error:
            found[name] = {"error": reason(error)}
        if name in found:  # by now the error holds no tensors any more
            _forget(bench.device)
    samples: dict[str, list[float]] = {name: [] for name in wanted}
    gc.collect()
    gc.disable()
    try:
        for repeat in range(max(wanted.values(), default=0)):
            for name, times in samples.items():
                if repeat >= wanted[name] or name in found:
                    continue
                try:
                    times.append(stopwatch(calls[name]))
                except Exception as error:
                    found[name] = {"error": reason(error)}
    finally:
        gc.enable()
    for name, times in samples.items():
        if name in found:
            continue
        found[name] = {
            "median": statistics.median(times),
            "min": min(times),
            "max": max(times),
            "repeats": len(times),
        }
    return {name: found[name] for name in calls}


class Stopwatch:
    """Seconds of a call, by events on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self.events = device.type == "cuda"
        if self.events:
            self.cold = torch.empty(FLUSHED_BYTES // 4, device=device)

    def __call__(self, call: Callable[[], object]) -> float:
        if not self.events:
            start = time.perf_counter()
            call()
            return time.perf_counter() - start
        begin = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        self.cold.zero_()
        begin.record()
        call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3


def peak_growth(bench: Bench, call: Callable[[], object]) -> int | None:
    """Bytes by which allocated memory grows at most during ``call``; ``None`` on CPU."""
    call()
    if bench.device.type != "cuda":
        return None
    _forget(bench.device)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def reason(error: BaseException) -> str:
    """What went wrong, in a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def median(seconds: Mapping[str, Mapping[str, Any]], name: str) -> float | None:
    """Of :func:`timed`'s result; ``None`` for what failed or was not timed."""
    return seconds.get(name, {}).get("median")


def ratio(a: float | None, b: float | None, digits: int = 3) -> float | None:
    """``a / b``, if both are known."""
    return None if a is None or b is None else float(f"{a / b:.{digits}g}")


# What the machine can do ------------------------------------------------------------------------


class Rates(NamedTuple):
    """Bytes, read and written, and floating-point operations of each format, a second."""

    copy: float
    gemm: dict[str, float]

    def fold_bound(self, pairs: int, channels: int, name: str, mode: str) -> dict[str, Any]:
        """The least seconds that folding so many pairs takes, by products or by memory.

        A pair takes ``8 d²`` multiply-adds, and ``16 d²`` more for its gradients; what a backward
        pass multiplies again is not counted. It reads two rows and writes one, and going back reads
        three and writes two.
        """
        products, rows = (8, 3) if mode == "forward" else (24, 8)
        flops = 2 * products * channels**2 * pairs
        moved = rows * channels * FORMATS[name].dtype.itemsize * pairs
        of_products, of_memory = flops / self.gemm[name], moved / self.copy
        return {
            "seconds": max(of_products, of_memory),
            "by": "products" if of_products > of_memory else "memory",
        }


def rates(bench: Bench) -> Rates:
    """Of a large copy and of large square products; the best of many."""
    return Rates(_copy_rate(bench), {name: _gemm_rate(bench, name) for name in FORMATS})


def _copy_rate(bench: Bench) -> float:
    source = torch.randn(bench.pick(2**28, 2**14), device=bench.device)
    target = torch.empty_like(source)
    found = timed(bench, {"copy": lambda: target.copy_(source)})
    return 2 * source.numel() * 4 / found["copy"]["min"]


def _gemm_rate(bench: Bench, name: str) -> float:
    n, dtype = bench.pick(8192, 64), FORMATS[name].dtype
    a, b = bench.elements(n, n, dtype), bench.elements(n, n, dtype)
    out = torch.empty_like(a)
    with float32_products(name):
        found = timed(bench, {"mm": lambda: torch.mm(a, b, out=out)})
    return 2 * n**3 / found["mm"]["min"]


def _forget(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
