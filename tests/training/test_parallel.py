"""Runs side by side give what runs one after the other give."""

import os

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
