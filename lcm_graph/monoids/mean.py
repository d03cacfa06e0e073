"""The mean of the elements."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lcm_graph.monoids.base import Monoid
from lcm_graph.monoids.segment import align, segment_sum


class MeanState(NamedTuple):
    """Mean and number of elements."""

    mean: Tensor  # [n, channels]
    size: Tensor  # [n, 1], float32 or wider


class Mean(Monoid):
    """Arithmetic mean, merged by weight, so that no sum overflows. An empty set answers 0."""

    invertible = True

    def lift(self, x: Tensor) -> MeanState:
        self._check_elements(x)
        one = x.new_ones(1, 1, dtype=count_dtype(x.dtype))
        return MeanState(x, one.expand(x.size(0), 1))

    def combine(self, left: MeanState, right: MeanState) -> MeanState:
        size = left.size + right.size
        mean = left.mean * divide(left.size, size) + right.mean * divide(right.size, size)
        return MeanState(mean.to(left.mean.dtype), size)

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> MeanState:
        mean = torch.zeros(self._identity_shape(n), dtype=dtype, device=device)
        return MeanState(mean, mean.new_zeros(n, 1, dtype=count_dtype(mean.dtype)))

    def lower(self, state: MeanState) -> Tensor:
        return state.mean

    def segment(self, state: MeanState, index: Tensor, dim_size: int) -> MeanState:
        size = segment_sum(state.size, index, dim_size)
        mean = divide(segment_sum(state.mean * state.size, index, dim_size), size)
        return MeanState(mean.to(state.mean.dtype), size)

    def inverse(self, state: MeanState) -> MeanState:
        return MeanState(state.mean, -state.size)

    def weigh(self, state: MeanState, weight: Tensor) -> MeanState:
        size = state.size * align(weight, state.size)
        return MeanState(torch.where(size == 0, 0, state.mean), size)


def count_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that counts elements of ``dtype``: float32 at least, so that counts stay exact."""
    return torch.promote_types(dtype, torch.float32)


def divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """``numerator / denominator``, and 0 with a gradient of 0 where the denominator is 0."""
    zero = denominator == 0
    return torch.where(zero, 0, numerator / torch.where(zero, 1, denominator))
