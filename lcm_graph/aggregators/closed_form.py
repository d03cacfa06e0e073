"""The closed-form aggregators by name."""

from __future__ import annotations

from lcm_graph.aggregators.monoid import MonoidAggregation
from lcm_graph.monoids import Max, Mean, Min, Sum, TopK


class SumAggregation(MonoidAggregation):
    """Sum of the elements. ``channels`` may be left out, as with PyG's."""

    def __init__(self, channels: int | None = None) -> None:
        super().__init__(Sum(channels))


class MeanAggregation(MonoidAggregation):
    """Mean of the elements; 0 for an empty set. ``channels`` may be left out."""

    def __init__(self, channels: int | None = None) -> None:
        super().__init__(Mean(channels))


class MaxAggregation(MonoidAggregation):
    """Maximum per channel; 0 for an empty set. ``channels`` may be left out."""

    def __init__(self, channels: int | None = None) -> None:
        super().__init__(Max(channels))


class MinAggregation(MonoidAggregation):
    """Minimum per channel; 0 for an empty set. ``channels`` may be left out."""

    def __init__(self, channels: int | None = None) -> None:
        super().__init__(Min(channels))


class TopKAggregation(MonoidAggregation):
    """The ``k`` largest (or smallest) per channel: see :class:`lcm_graph.monoids.TopK`."""

    def __init__(self, channels: int | None = None, k: int = 2, largest: bool = True) -> None:
        super().__init__(TopK(channels, k, largest))
