"""Aggregators whose few vectors gather a set and then attend to each other."""

from __future__ import annotations

from torch import Tensor, nn

from lcm_graph.attention.sets.grouped import GroupedAggregation
from lcm_graph.attention.sets.seed_attention import SeedAttention
from lcm_graph.attention.sets.set_attention import SetAttention, check_blocks, reset_all
from lcm_graph.attention.sets.slot_encoding import SlotEncoding
from lcm_graph.monoids import Monoid


class _Latents(GroupedAggregation):
    """Base: a monoid whose answers are ``count`` vectors, and attention among these."""

    def __init__(
        self, monoid: Monoid, count: int, blocks: int, heads: int, concat: bool, cached: bool
    ) -> None:
        super().__init__(monoid, cached)
        assert monoid.channels is not None
        self.count, self.concat = count, concat
        self.blocks = nn.ModuleList(
            SetAttention(monoid.channels, heads) for _ in range(check_blocks("num_blocks", blocks))
        )

    @property
    def out_channels(self) -> int | None:
        """Features of an output."""
        return self.monoid.out_channels if self.concat else self.monoid.channels

    def finish(self, folded: Tensor) -> Tensor:
        latents = folded.unflatten(1, (self.count, -1))
        for block in self.blocks:
            assert isinstance(block, SetAttention)
            latents = block.on_dense(latents)
        return latents.flatten(1) if self.concat else latents.mean(1)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        reset_all(self.blocks)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.monoid}, blocks={len(self.blocks)})"


class PerceiverAggregation(_Latents):
    """Learned latents attend to each set once, then to each other.

    Linear in the number of elements, exact when sets come in chunks.

    Args:
        channels: of elements and latents.
        num_latents: how many.
        num_blocks: of the latents' attention to each other.
        heads: a divisor of ``channels``.
        concat: put the latents side by side, instead of their mean.
        cached: see :class:`~lcm_graph.aggregators.base.FoldAggregation`.

    Raises:
        ValueError: ``heads`` is no divisor of ``channels``, or a number is none.

    Source: Jaegle et al., "Perceiver: General Perception with Iterative Attention" (2021), section
    3, with a single cross-attention, before which elements go through a linear layer and a ReLU.
    """

    def __init__(
        self,
        channels: int,
        num_latents: int = 8,
        num_blocks: int = 1,
        heads: int = 1,
        concat: bool = False,
        cached: bool = False,
    ) -> None:
        monoid = SeedAttention(channels, num_latents, heads)
        super().__init__(monoid, num_latents, num_blocks, heads, concat, cached)


class SlotAggregation(_Latents):
    """Mini-batch consistent slots, which then attend to each other: see :class:`SlotEncoding`.

    Args:
        channels: of elements and slots.
        slots: how many.
        activation: see :class:`SlotEncoding`.
        num_blocks: of the slots' attention to each other.
        heads: of these blocks; a divisor of ``channels``.
        concat: put the slots side by side, instead of their mean.
        cached: see :class:`~lcm_graph.aggregators.base.FoldAggregation`.

    Raises:
        ValueError: ``heads`` is no divisor of ``channels``, a number is none, or there is no such
            activation.

    Source: Willette et al., "Scalable Set Encoding with Universal Mini-Batch Consistency" (2023).
    """

    def __init__(
        self,
        channels: int,
        slots: int = 8,
        activation: str = "sigmoid",
        num_blocks: int = 1,
        heads: int = 1,
        concat: bool = False,
        cached: bool = False,
    ) -> None:
        monoid = SlotEncoding(channels, slots, activation)
        super().__init__(monoid, slots, num_blocks, heads, concat, cached)
