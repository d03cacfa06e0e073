"""The sum of the elements."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_graph.monoids.base import Monoid
from lcm_graph.monoids.segment import segment_sum, times_weight


class Sum(Monoid):
    """Addition: the state is the running sum ``[n, channels]``, the identity is 0."""

    invertible = True
    additive = True

    def combine(self, left: Tensor, right: Tensor) -> Tensor:
        return left + right

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> Tensor:
        return torch.zeros(self._identity_shape(n), dtype=dtype, device=device)

    def segment(self, state: Tensor, index: Tensor, dim_size: int) -> Tensor:
        return segment_sum(state, index, dim_size)

    def inverse(self, state: Tensor) -> Tensor:
        return -state

    def weigh(self, state: Tensor, weight: Tensor) -> Tensor:
        return times_weight(state, weight)
