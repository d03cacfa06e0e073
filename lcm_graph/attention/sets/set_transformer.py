"""Set Transformers as aggregators."""

from __future__ import annotations

from torch import Tensor, nn

from lcm_graph.aggregators.base import FoldAggregation, check_dtype, check_features
from lcm_graph.attention.sets.grouped import gather_sets
from lcm_graph.attention.sets.seed_attention import SeedAttention
from lcm_graph.attention.sets.set_attention import (
    InducedSetAttention,
    OnSets,
    SetAttention,
    check_blocks,
    reset_all,
)
from lcm_graph.reduce import FoldPlan, segment_reduce


class SetTransformerAggregation(FoldAggregation):
    """Elements attend to their set, seeds pool it, and seeds attend to each other.

    A drop-in replacement for PyG's of the same name: its signature, ``state_dict`` and numbers.
    Unlike PyG's, nothing is padded, ``index`` may be unsorted and ``ptr`` suffices; and a set
    without elements answers like seeds that found nothing, where PyG's answers 0.

    Args:
        channels: of elements.
        num_seed_points: seeds.
        num_encoder_blocks: of elements' attention to their set.
        num_decoder_blocks: of seeds' attention to each other.
        heads: a divisor of ``channels``.
        concat: put the seeds' answers side by side, instead of their mean.
        layer_norm: normalise after attention and after each feed-forward layer.
        dropout: of attention weights, while training.
        num_induced_points: let elements attend to so many learned points that have attended to the
            set, in linear time, instead of to all elements.

    Raises:
        ValueError: ``heads`` is no divisor of ``channels``, or a number is none.

    Source: Lee et al., "Set Transformer" (2019), section 3; Buterez et al., "Graph Neural Networks
    with Adaptive Readouts" (2022).
    """

    def __init__(
        self,
        channels: int,
        num_seed_points: int = 1,
        num_encoder_blocks: int = 1,
        num_decoder_blocks: int = 1,
        heads: int = 1,
        concat: bool = True,
        layer_norm: bool = False,
        dropout: float = 0.0,
        *,
        num_induced_points: int | None = None,
        cached: bool = False,
    ) -> None:
        super().__init__(cached=cached)
        self.channels, self.concat = channels, concat
        self.num_induced_points = num_induced_points
        self.pma = SeedAttention(channels, num_seed_points, heads, layer_norm, dropout)
        self.encoders = nn.ModuleList(
            SetAttention(channels, heads, layer_norm, dropout)
            if num_induced_points is None
            else InducedSetAttention(channels, num_induced_points, heads, layer_norm, dropout)
            for _ in range(check_blocks("num_encoder_blocks", num_encoder_blocks))
        )
        self.decoders = nn.ModuleList(
            SetAttention(channels, heads, layer_norm, dropout)
            for _ in range(check_blocks("num_decoder_blocks", num_decoder_blocks))
        )

    @property
    def out_channels(self) -> int:
        """Features of an output."""
        return self.pma.out_channels if self.concat else self.channels

    def fold(self, x: Tensor, plan: FoldPlan, weight: Tensor | None) -> Tensor:
        check_features(x, self.channels, type(self).__name__)
        check_dtype(x, self)
        if weight is not None and len(self.encoders):
            raise TypeError(
                f"{type(self).__name__} with encoder blocks cannot weigh elements, which see each "
                "other; PMAAggregation can"
            )
        for encoder in self.encoders:
            assert isinstance(encoder, OnSets)
            x = encoder.on_plan(x, plan)
        if weight is not None or not plan.num_elements:
            states = self.pma.lift(x)
            if weight is not None:
                states = self.pma.weigh(states, weight)
            states = segment_reduce(self.pma, states, plan=plan)
        else:
            states = gather_sets(self.pma, x, plan)
        out = self.pma.lower(states).unflatten(1, (self.pma.seeds, self.channels))
        for decoder in self.decoders:
            assert isinstance(decoder, SetAttention)
            out = decoder.on_dense(out)
        return out.flatten(1) if self.concat else out.mean(1)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        reset_all(self.encoders, [self.pma], self.decoders)

    def __repr__(self) -> str:
        points = self.num_induced_points
        induced = "" if points is None else f", num_induced_points={points}"
        return (
            f"{type(self).__name__}({self.channels}, num_seed_points={self.pma.seeds}, "
            f"heads={self.pma.heads}, blocks={len(self.encoders)}+{len(self.decoders)}{induced})"
        )
