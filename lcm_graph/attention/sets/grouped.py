"""Aggregators that gather whole sets of one size at a time."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from lcm_graph.aggregators.base import FoldAggregation, check_dtype, check_features
from lcm_graph.monoids import Monoid, State
from lcm_graph.monoids.state import take
from lcm_graph.reduce import FoldPlan, segment_reduce
from lcm_graph.reduce.groups import Groups, groups_of


class Gathers(Protocol):
    """A monoid that knows a quick way for whole sets."""

    def gather(self, x: Tensor, groups: Groups) -> State:
        """The states of ``groups.sets``: ``x [n, channels]`` in the order of ``groups.rows``."""


class GroupedAggregation(FoldAggregation):
    """Folds with a monoid; sets of one size go through its ``gather``, side by side.

    The monoid is the attribute ``monoid``: fold chunks of sets with ``Accumulator(aggr.monoid)``
    and :meth:`finish` the result, and the answer is that of :meth:`forward`.

    Args:
        monoid: of ``channels`` features, with a method ``gather``.
        cached: see :class:`FoldAggregation`.
    """

    def __init__(self, monoid: Monoid, cached: bool = False) -> None:
        super().__init__(cached=cached)
        self.monoid = monoid

    @property
    def out_channels(self) -> int | None:
        """Features of an output."""
        return self.monoid.out_channels

    def finish(self, folded: Tensor) -> Tensor:
        """What the monoid's ``lower`` gives, ``[num_sets, …]``, to answers."""
        return folded

    def fold(self, x: Tensor, plan: FoldPlan, weight: Tensor | None) -> Tensor:
        assert self.monoid.channels is not None
        check_features(x, self.monoid.channels, type(self).__name__)
        check_dtype(x, self)
        if weight is not None or not plan.num_elements:
            states = self.monoid.lift(x)
            if weight is not None:
                states = self.monoid.weigh(states, weight)
            return self.finish(self.monoid.lower(segment_reduce(self.monoid, states, plan=plan)))
        return self.finish(self.monoid.lower(gather_sets(self.monoid, x, plan)))

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self.monoid.reset_parameters()


def gather_sets(monoid: Any, x: Tensor, plan: FoldPlan) -> State:
    """The states of all sets, gathered by size; ``x`` has elements."""
    groups = groups_of(plan)
    states = monoid.gather(x.index_select(0, groups.rows), groups)
    if len(groups.sets) == plan.num_sets:
        return take(states, groups.sets.argsort())
    return monoid.folds_as.place(states, groups.sets, plan.num_sets)
