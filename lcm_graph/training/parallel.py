"""Independent training runs side by side."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any, TypeVar

import torch
from tqdm import tqdm

Result = TypeVar("Result")

_epochs_done: Any = None  # in a worker: the counter that it shares with the process that shows it


def run_all(
    function: Callable[..., Result],
    calls: Sequence[tuple[Any, ...]],
    *,
    jobs: int = 1,
    epochs: int = 0,
) -> Iterator[Result]:
    """Yield ``function(*call)`` for each call, in order, ``jobs`` at a time.

    With more than one job, each runs in a process of its own with as many threads as this one
    uses; function, arguments and results must pickle. Small models gain more from a second process
    than from a second thread.

    Workers end when this process does, however that comes, and when it is interrupted. No call is
    begun after an interrupt or a failure; after a failure, those that run are waited for.

    Args:
        function: what to call.
        calls: its arguments.
        jobs: how many to run at once.
        epochs: training epochs of all calls together. With more than one job, one progress bar
            counts them (on terminals only); print through ``tqdm.write`` meanwhile.

    Raises:
        ValueError: ``jobs`` is below 1.
        Exception: whatever a call raises.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1 (got {jobs})")
    if jobs == 1 or len(calls) < 2:
        return (function(*call) for call in calls)
    return _in_processes(function, calls, min(jobs, len(calls)), epochs)


def count_epoch() -> None:
    """Tell the process that shows the progress, if there is one, that an epoch is done."""
    if _epochs_done is not None:
        with _epochs_done.get_lock():
            _epochs_done.value += 1


def _in_processes(
    function: Callable[..., Result], calls: Sequence[tuple[Any, ...]], jobs: int, epochs: int
) -> Iterator[Result]:
    context = multiprocessing.get_context("spawn")  # forking after torch has run may hang
    others = set(multiprocessing.active_children())
    done = context.Value("l", 0)
    bar = tqdm(total=epochs, unit="epoch", leave=False, disable=not (epochs and _on_terminal()))
    with (
        bar,
        ProcessPoolExecutor(
            jobs,
            mp_context=context,
            initializer=_start_worker,
            initargs=(torch.get_num_threads(), done),
        ) as pool,
    ):
        futures: list[Future[Result]] = []
        try:
            for place in range(len(calls)):
                while len(futures) <= place or not futures[place].done():
                    running = [future for future in futures if not future.done()]
                    # No more than run: the pool would begin what waits after an interrupt, too.
                    for call in calls[len(futures) : len(futures) + jobs - len(running)]:
                        futures.append(pool.submit(function, *call))
                        running.append(futures[-1])
                    wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                    bar.update(done.value - bar.n)
                    bar.refresh()
                yield futures[place].result()
        except Exception:
            raise  # what else runs may end
        except BaseException:  # Ctrl-C, or nobody wants the rest
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise


def _start_worker(threads: int, epochs_done: Any) -> None:
    global _epochs_done
    _epochs_done = epochs_done
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C ends
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when the process that started it is gone, even if that was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _on_terminal() -> bool:
    return sys.stderr.isatty()
