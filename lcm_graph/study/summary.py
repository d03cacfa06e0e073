"""What the runs of a study say together: means over seeds, and who comes first."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lcm_graph.study.run_files import Run

BySubject = dict[str, dict[str, dict[int, list[float]]]]
"""task -> subject -> size -> a value for each seed that has one."""


class Place(NamedTuple):
    """Where a subject stands on one task.

    Attributes:
        mean: its accuracy, the mean over seeds.
        rank: 1 + the number of subjects with a higher mean, so that equals share the better rank.
        is_near_first: whether its mean is at least the best mean minus that mean's standard error,
            see :func:`places`.
    """

    mean: float
    rank: int
    is_near_first: bool


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


def places(accuracy: Mapping[str, Sequence[float]]) -> dict[str, Place]:
    """Rank subjects on one task by their mean accuracy.

    Near the first is every subject whose mean is at least ``m - s / √K``: ``m`` is the highest
    mean, of ``K`` seeds whose unbiased standard deviation is ``s`` (0 for one seed; the largest
    ``s / √K`` where several subjects have the mean ``m``). The first are near themselves.

    Args:
        accuracy: subject -> accuracy of each seed; subjects without any are left out.
    """
    means = {name: statistics.fmean(values) for name, values in accuracy.items() if values}
    best = max(means.values(), default=0.0)
    noise = max(
        (standard_error(accuracy[name]) for name, mean in means.items() if mean == best),
        default=0.0,
    )
    return {
        name: Place(mean, 1 + sum(other > mean for other in means.values()), mean >= best - noise)
        for name, mean in means.items()
    }


def standard_error(values: Sequence[float]) -> float:
    """``s / √K``, with the unbiased standard deviation ``s`` of ``K`` values; 0 for one."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def places_by_task(runs: Sequence[Run], size: int) -> dict[str, dict[str, Place]]:
    """task -> subject -> its place at one size; see :func:`places`."""
    return {
        task: places({name: sizes.get(size, []) for name, sizes in subjects.items()})
        for task, subjects in by_size(runs, "accuracy").items()
    }


class Standing(NamedTuple):
    """Where a subject stands over all tasks on which it has a place.

    Attributes:
        mean_rank: over these tasks.
        first: fraction of them on which its rank is 1.
        near_first: fraction of them on which it is first or within noise of it.
        tasks: how many there are.
    """

    mean_rank: float
    first: float
    near_first: float
    tasks: int


def standings(placed: Mapping[str, Mapping[str, Place]]) -> dict[str, Standing]:
    """Subject -> its standing over tasks, the best mean rank first."""
    collected: dict[str, list[Place]] = {}
    for subjects in placed.values():
        for name, place in subjects.items():
            collected.setdefault(name, []).append(place)
    found = {
        name: Standing(
            statistics.fmean(place.rank for place in had),
            statistics.fmean(place.rank == 1 for place in had),
            statistics.fmean(place.is_near_first for place in had),
            len(had),
        )
        for name, had in collected.items()
    }
    return dict(sorted(found.items(), key=lambda item: item[1].mean_rank))


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
