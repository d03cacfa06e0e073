"""Runs side by side give what runs one after the other give."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lcm_graph.training import run_all


def divide(a, b):
    return a / b, os.getpid()


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_order_then_the_error(jobs):
    results = run_all(divide, [(9, 3), (1, 2), (1, 0)], jobs=jobs)
    (first, a), (second, b) = next(results), next(results)
    assert (first, second) == (3, 0.5)
    assert ({a, b} == {os.getpid()}) == (jobs == 1)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_bad_jobs():
    with pytest.raises(ValueError, match=r"jobs must be at least 1 \(got 0\)"):
        run_all(divide, [(1, 1)], jobs=0)


def stay(folder):
    (folder / str(os.getpid())).touch()
    time.sleep(300)


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="whether a process lives is read from /proc"
)


def is_there(pid):
    """A process that has ended, but that nobody has asked after, counts as gone."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def started(folder, calls):
    """A process of its own session that runs ``calls`` calls of :func:`stay`, two at a time; and
    its two workers, once they are there."""
    code = (
        "import signal\n"  # which a shell lets its background jobs ignore
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pathlib import Path\n"
        "from lcm_graph.training import run_all\n"
        "from tests.training.test_parallel import stay\n"
        f"list(run_all(stay, [(Path({str(folder)!r}),)] * {calls}, jobs=2))\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while len(workers := [int(path.name) for path in folder.iterdir()]) < 2:
        if parent.poll() is not None or time.monotonic() > deadline:
            parent.kill()
            parent.wait()
            raise AssertionError("no workers")
        time.sleep(0.1)
    return parent, workers


@needs_proc
def test_workers_end_when_their_parent_is_killed(tmp_path):
    parent, workers = started(tmp_path, 2)
    assert all(map(is_there, workers))
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 30
    while any(map(is_there, workers)):
        assert time.monotonic() < deadline, "a worker lives on"
        time.sleep(0.1)


@needs_proc
def test_an_interrupt_ends_what_runs_and_begins_nothing(tmp_path):
    """As Ctrl-C in a terminal: the signal goes to the workers too."""
    parent, workers = started(tmp_path, 6)
    try:
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.wait(timeout=30) != 0
    finally:
        parent.kill()
        parent.wait()
    assert len(list(tmp_path.iterdir())) == 2
    assert not any(map(is_there, workers))


def pid_after(seconds):
    time.sleep(seconds)
    return seconds


def test_no_worker_waits_for_a_slow_first_call():
    start = time.monotonic()
    assert list(run_all(pid_after, [(3,), (1,), (1,), (1,)], jobs=2)) == [3, 1, 1, 1]
    assert time.monotonic() - start < 20  # with the workers' start
