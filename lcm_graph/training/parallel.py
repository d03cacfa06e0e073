"""Independent training runs side by side."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")


def run_all(
    function: Callable[..., Result], calls: Sequence[tuple[Any, ...]], *, jobs: int = 1
) -> Iterator[Result]:
    """Yield ``function(*call)`` for each call, in order, ``jobs`` at a time.

    With more than one job, each runs in a process of its own with as many threads as this one
    uses; function, arguments and results must pickle. Small models gain more from a second process
    than from a second thread.

    Raises:
        ValueError: ``jobs`` is below 1.
        Exception: whatever a call raises.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1 (got {jobs})")
    if jobs == 1 or len(calls) < 2:
        return (function(*call) for call in calls)
    return _in_processes(function, calls, min(jobs, len(calls)))


def _in_processes(
    function: Callable[..., Result], calls: Sequence[tuple[Any, ...]], jobs: int
) -> Iterator[Result]:
    with ProcessPoolExecutor(
        jobs,
        mp_context=multiprocessing.get_context("spawn"),  # forking after torch has run may hang
        initializer=torch.set_num_threads,
        initargs=(torch.get_num_threads(),),
    ) as pool:
        futures = [pool.submit(function, *call) for call in calls]
        try:
            for future in futures:
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
