"""Pooling by multi-head attention, as a monoid."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lcm_graph.attention.sets.block import AttentionBlock
from lcm_graph.attention.states import AttentionState, SoftmaxAttention
from lcm_graph.monoids import Monoid
from lcm_graph.monoids.base import check_positive
from lcm_graph.reduce.groups import Groups


class SeedAttention(Monoid):
    """Learned seeds attend to the elements of a set.

    A state is what each seed and head has gathered, so sets can be folded chunk by chunk. ``lower``
    adds the seeds, a feed-forward layer and normalisation, and gives ``[n, seeds * channels]``.

    Args:
        channels: of elements.
        num_seed_points: seeds.
        heads: a divisor of ``channels``.
        layer_norm: normalise, twice.
        dropout: of attention weights, while training and folding whole sets.

    Raises:
        ValueError: ``heads`` is no divisor of ``channels``, or a number is none.

    Source: Lee et al., "Set Transformer" (2019), equation 11; parameters are named as in PyG's
    ``PoolingByMultiheadAttention``.
    """

    def __init__(
        self,
        channels: int,
        num_seed_points: int = 1,
        heads: int = 1,
        layer_norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(check_positive("channels", channels))
        self.seeds = check_positive("num_seed_points", num_seed_points)
        self.heads = check_heads(channels, heads)
        self.lin = nn.Linear(channels, channels)
        self.seed = nn.Parameter(torch.empty(1, num_seed_points, channels))
        self.mab = AttentionBlock(channels, heads, layer_norm, dropout)
        self.inner = SoftmaxAttention(channels // heads, (num_seed_points, heads))
        self.reset_parameters()

    @property
    def out_channels(self) -> int:
        return self.seeds * self.mab.channels

    @property
    def folds_as(self) -> Monoid:
        return self.inner

    def lift(self, x: Tensor) -> AttentionState:
        self._check_elements(x)
        k, v = self.mab.keys_and_values(self.lin(x).relu())  # [heads, n, channels / heads]
        q = self.mab.queries(self.seed[0])
        scale = q.size(-1) ** -0.5
        logits = scale * torch.einsum("hsd,hnd->nsh", q, k)
        return self.inner.lift(
            v.transpose(0, 1).unsqueeze(1).expand(-1, self.seeds, -1, -1), logits
        )

    def gather(self, x: Tensor, groups: Groups) -> AttentionState:
        """The states of whole sets: ``x [n, channels]`` in the order of ``groups.rows``."""
        seeds = self.mab.queries(self.seed[0]).unsqueeze(1)  # [heads, 1, seeds, c]
        parts = zip(*map(groups.split, self.mab.keys_and_values(self.lin(x).relu())), strict=True)
        states = [self.mab.gather(seeds.expand(-1, k.size(1), -1, -1), k, v) for k, v in parts]
        out = torch.cat([state.out for state in states], dim=1)  # [heads, sets, seeds, c]
        lse = torch.cat([state.lse for state in states], dim=1)
        return AttentionState(out.permute(1, 2, 0, 3).to(x.dtype), lse.permute(1, 2, 0))

    def combine(self, left: AttentionState, right: AttentionState) -> AttentionState:
        return self.inner.combine(left, right)

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> AttentionState:
        dtype = self.seed.dtype if dtype is None else dtype
        return self.inner.identity(n, dtype=dtype, device=device or self.seed.device)

    def weigh(self, state: AttentionState, weight: Tensor) -> AttentionState:
        return self.inner.weigh(state, weight)

    def segment(self, state: AttentionState, index: Tensor, dim_size: int) -> AttentionState:
        return self.inner.segment(state, index, dim_size)

    def lower(self, state: AttentionState) -> Tensor:
        n = state.out.size(0)
        seeds = self.seed.expand(n, -1, -1).to(state.out.dtype)
        return self.mab.finish(seeds, state.out.transpose(1, 2)).flatten(1)

    def reset_parameters(self) -> None:
        self.lin.reset_parameters()
        nn.init.xavier_uniform_(self.seed)
        self.mab.reset_parameters()

    def __repr__(self) -> str:
        return f"SeedAttention({self.channels}, num_seed_points={self.seeds}, heads={self.heads})"


def check_heads(channels: int, heads: int) -> int:
    """Returns ``heads``; ValueError if it is no divisor of ``channels``."""
    if check_positive("heads", heads) and channels % heads:
        raise ValueError(f"'heads' must be a divisor of 'channels', {channels} (got {heads})")
    return heads
