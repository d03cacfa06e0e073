"""Any monoid is an aggregator."""

from __future__ import annotations

from torch import Tensor

from lcm_graph.aggregators.base import FoldAggregation
from lcm_graph.monoids import Monoid
from lcm_graph.reduce import FoldPlan, segment_reduce


class MonoidAggregation(FoldAggregation):
    """Folds each set with a monoid: lift, reduce, lower.

    Args:
        monoid: what to fold with, e.g. ``Product(Sum(64), TopK(64, k=4))``.
        order: see :class:`FoldAggregation`; only of interest where the monoid is not associative.
        cached: see :class:`FoldAggregation`.

    Raises:
        TypeError: ``monoid`` is not a :class:`~lcm_graph.monoids.Monoid`.
    """

    gathers = True

    def __init__(self, monoid: Monoid, order: str = "given", cached: bool = False) -> None:
        super().__init__(order, cached)
        if not isinstance(monoid, Monoid):
            raise TypeError(f"'monoid' must be a Monoid, e.g. Sum(64) (got {monoid!r})")
        self.monoid = monoid

    @property
    def out_channels(self) -> int | None:
        """Features of an output; ``None`` if they are those of the input."""
        return self.monoid.out_channels

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self.monoid.reset_parameters()

    def fold(self, x: Tensor, plan: FoldPlan, weight: Tensor | None) -> Tensor:
        return fold_with(self.monoid, x, plan, weight)

    def __repr__(self) -> str:
        order = "" if self.order == "given" else f", order={self.order!r}"
        return f"{type(self).__name__}({self.monoid}{order})"


def fold_with(monoid: Monoid, x: Tensor, plan: FoldPlan, weight: Tensor | None = None) -> Tensor:
    """Lift elements ``x [n, F]``, fold them, lower the result to ``[num_sets, out_channels]``."""
    states = monoid.lift(x)
    if weight is not None:
        states = monoid.weigh(states, weight)
    return monoid.lower(segment_reduce(monoid, states, plan=plan))
