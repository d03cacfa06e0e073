"""Any monoid is an aggregator."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lcm_graph.aggregators.tree import TreeAggregation, check_training
from lcm_graph.monoids import Monoid
from lcm_graph.reduce import FoldPlan


class MonoidAggregation(TreeAggregation):
    """Folds each set with a monoid: lift, reduce, lower.

    Args:
        monoid: what to fold with, e.g. ``Product(Sum(64), TopK(64, k=4))``.
        order: see :class:`FoldAggregation`; only of interest where the monoid is not associative.
        cached: see :class:`FoldAggregation`.
        **training: ``bracketing``, ``associativity`` and ``commutativity`` of
            :class:`TreeAggregation`, for a monoid, or factors of one, without that law.

    Raises:
        TypeError: ``monoid`` is not a :class:`~lcm_graph.monoids.Monoid`.
    """

    gathers = True

    def __init__(
        self, monoid: Monoid, order: str = "given", cached: bool = False, **training: Any
    ) -> None:
        check_training(type(self).__name__, training)
        super().__init__(order, cached, **training)
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
        return self.fold_with(self.monoid, x, plan, weight)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.monoid}{self._settings()})"
