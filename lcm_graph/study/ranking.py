"""Who comes first: ranks on each task, and over all of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lcm_graph.study.run_files import Run
from lcm_graph.study.summary import by_size


class Place(NamedTuple):
    """Where a subject stands on one task.

    Attributes:
        mean: its accuracy, the mean over seeds.
        rank: 1 + the number of subjects with a higher mean, so that equals share the better rank.
        is_near_first: whether its mean is within one standard error of the best mean, see
            :func:`places`.
    """

    mean: float
    rank: int
    is_near_first: bool


def places(accuracy: Mapping[str, Sequence[float]], tested: Mapping[str, int]) -> dict[str, Place]:
    """Rank subjects on one task by their mean accuracy.

    Near the first is every subject whose mean is at least the highest mean less one standard error
    of that: the larger of :func:`standard_error` over seeds, and :func:`counting_error` over test
    sets, without which one set that is answered wrong would part a subject from three that answer
    all. Of several with the highest mean, the largest error counts. Nobody is near who answers
    nothing right.

    Args:
        accuracy: subject -> accuracy of each seed; subjects without any are left out.
        tested: subject -> how many sets it was tested on, over all seeds.
    """
    means = {name: statistics.fmean(values) for name, values in accuracy.items() if values}
    best = max(means.values(), default=0.0)
    noise = max(
        (
            max(standard_error(accuracy[name]), counting_error(mean, tested[name]))
            for name, mean in means.items()
            if mean == best
        ),
        default=0.0,
    )
    return {
        name: Place(
            mean,
            1 + sum(other > mean for other in means.values()),
            mean > 0 and mean >= best - noise,
        )
        for name, mean in means.items()
    }


def standard_error(values: Sequence[float]) -> float:
    """``s / √K``, with the unbiased standard deviation ``s`` of ``K`` values; 0 for one."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def counting_error(share: float, count: int) -> float:
    """The standard error of a share of ``count`` draws.

    With one more draw of either kind (Laplace's rule of succession), so that it is not 0 where all
    are of one kind.
    """
    adjusted = (share * count + 1) / (count + 2)
    return math.sqrt(adjusted * (1 - adjusted) / (count + 2))


def places_by_task(runs: Sequence[Run], size: int) -> dict[str, dict[str, Place]]:
    """task -> subject -> its place at one size; see :func:`places`."""
    tested = by_size(runs, "test_sets")
    return {
        task: places(
            {name: sizes.get(size, []) for name, sizes in subjects.items()},
            {name: round(sum(sizes.get(size, []))) for name, sizes in tested[task].items()},
        )
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
