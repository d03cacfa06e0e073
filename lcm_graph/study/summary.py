"""What the runs of a study say together: values by size, and means."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from lcm_graph.study.run_files import Run

BySubject = dict[str, dict[str, dict[int, list[float]]]]
"""task -> subject -> size -> a value for each seed that has one."""


def by_size(runs: Sequence[Run], key: str) -> BySubject:
    """``result[key][size]`` of all runs, where it is not None.

    Tasks and subjects come in the order in which the runs bring them; one that has no value yet has
    no sizes.
    """
    found: BySubject = {}
    for run in runs:
        sizes = found.setdefault(run.task, {}).setdefault(run.subject, {})
        for size, value in run.result[key].items():
            if value is not None:
                sizes.setdefault(int(size), []).append(value)
    return found


def trivial_accuracy(runs: Sequence[Run]) -> dict[str, dict[int, float]]:
    """task -> size -> accuracy of the best constant answer, the mean over seeds' test sets."""
    by_seed: dict[str, dict[int, dict[int, float]]] = {}
    for run in runs:
        sizes = by_seed.setdefault(run.task, {})
        for size, value in run.result["trivial"].items():
            if value is not None:  # the same for all subjects
                sizes.setdefault(int(size), {})[run.seed] = value
    return {
        task: {size: statistics.fmean(seeds.values()) for size, seeds in sizes.items()}
        for task, sizes in by_seed.items()
    }


def alone_and_batched(runs: Sequence[Run]) -> dict[str, dict[int, dict[str, float]]]:
    """subject -> size -> ``alone``, ``batched`` and ``change``, means over tasks and seeds.

    A ``change`` that is none counts as infinite.
    """
    collected: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for run in runs:
        for size, test in run.result["alone"].items():
            collected.setdefault(run.subject, {}).setdefault(int(size), []).append(test)
    return {
        subject: {
            size: {key: statistics.fmean(_number(test[key]) for test in tests) for key in tests[0]}
            for size, tests in sizes.items()
        }
        for subject, sizes in collected.items()
    }


def _number(value: float | None) -> float:
    return math.inf if value is None else value
