"""The largest and the smallest element of each channel."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_graph.monoids.base import Monoid
from lcm_graph.monoids.segment import plus_log_weight, segment_max


class Max(Monoid):
    """Maximum per channel; the identity is -inf. Tied elements share the gradient.

    Args:
        channels: features of an element.
        fill_value: what ``lower`` answers for an empty set (and for a set of infinities, which is
            the same state): 0, as PyG's max aggregation does.
    """

    idempotent = True

    def __init__(self, channels: int | None = None, fill_value: float = 0.0) -> None:
        super().__init__(channels)
        self.fill_value = fill_value

    def combine(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.maximum(left, right)

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> Tensor:
        return torch.full(self._identity_shape(n), -torch.inf, dtype=dtype, device=device)

    def lower(self, state: Tensor) -> Tensor:
        return state.masked_fill(state == -torch.inf, self.fill_value)

    def segment(self, state: Tensor, index: Tensor, dim_size: int) -> Tensor:
        return segment_max(state, index, dim_size)

    def weigh(self, state: Tensor, weight: Tensor) -> Tensor:
        return plus_log_weight(state, weight)


class Min(Max):
    """Minimum per channel; the identity is +inf. See :class:`Max`."""

    def combine(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.minimum(left, right)

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> Tensor:
        return -super().identity(n, dtype=dtype, device=device)

    def lower(self, state: Tensor) -> Tensor:
        return state.masked_fill(state == torch.inf, self.fill_value)

    def segment(self, state: Tensor, index: Tensor, dim_size: int) -> Tensor:
        return -segment_max(-state, index, dim_size)

    def weigh(self, state: Tensor, weight: Tensor) -> Tensor:
        return -plus_log_weight(-state, weight)
