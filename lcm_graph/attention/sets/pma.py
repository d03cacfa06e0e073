"""Pooling by multi-head attention."""

from __future__ import annotations

from lcm_graph.attention.sets.grouped import GroupedAggregation
from lcm_graph.attention.sets.seed_attention import SeedAttention


class PMAAggregation(GroupedAggregation):
    """Learned seeds attend to each set: :class:`SeedAttention` as an aggregator.

    Linear in the number of elements, and exact when sets come in chunks::

        chunks = Accumulator(aggr.monoid)  # update(x, index) with each chunk
        aggr.finish(chunks.result())  # what aggr gives to all of them at once

    Args:
        channels: of elements.
        num_seed_points: seeds, whose answers stand side by side.
        heads: a divisor of ``channels``.
        layer_norm: normalise, twice.
        dropout: of attention weights, while training.
        cached: see :class:`~lcm_graph.aggregators.base.FoldAggregation`.

    Raises:
        ValueError: ``heads`` is no divisor of ``channels``, or a number is none.

    Source: Lee et al., "Set Transformer" (2019), equation 11.
    """

    def __init__(
        self,
        channels: int,
        num_seed_points: int = 1,
        heads: int = 1,
        layer_norm: bool = True,
        dropout: float = 0.0,
        cached: bool = False,
    ) -> None:
        super().__init__(
            SeedAttention(channels, num_seed_points, heads, layer_norm, dropout), cached
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.monoid})"
