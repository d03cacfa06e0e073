"""The mean of the elements."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lcm_graph.monoids.base import Monoid
from lcm_graph.monoids.segment import align, segment_sum


class MeanState(NamedTuple):
    """Running sum and number of elements."""

    total: Tensor  # [n, channels]
    size: Tensor  # [n, 1], float32 or wider


class Mean(Monoid):
    """Arithmetic mean: sums and counts are added, ``lower`` divides. An empty set answers 0."""

    invertible = True

    def lift(self, x: Tensor) -> MeanState:
        self._check_elements(x)
        return MeanState(x, x.new_ones(x.size(0), 1, dtype=count_dtype(x.dtype)))

    def combine(self, left: MeanState, right: MeanState) -> MeanState:
        return MeanState(left.total + right.total, left.size + right.size)

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> MeanState:
        total = torch.zeros(self._identity_shape(n), dtype=dtype, device=device)
        return MeanState(total, total.new_zeros(n, 1, dtype=count_dtype(total.dtype)))

    def lower(self, state: MeanState) -> Tensor:
        empty = state.size == 0
        mean = state.total / torch.where(empty, 1, state.size)
        return torch.where(empty, 0, mean).to(state.total.dtype)

    def segment(self, state: MeanState, index: Tensor, dim_size: int) -> MeanState:
        return MeanState(*(segment_sum(field, index, dim_size) for field in state))

    def inverse(self, state: MeanState) -> MeanState:
        return MeanState(-state.total, -state.size)

    def weigh(self, state: MeanState, weight: Tensor) -> MeanState:
        return MeanState(*(field * align(weight, field) for field in state))


def count_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that counts elements of ``dtype``: float32 at least, so that counts stay exact."""
    return torch.promote_types(dtype, torch.float32)
