"""The logarithm of a sum of exponentials: a smooth maximum."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_graph.monoids.base import Monoid
from lcm_graph.monoids.segment import finite_shift, plus_log_weight, segment_max, segment_sum


class LogSumExp(Monoid):
    """``log Σ exp(x)`` per channel, without overflow; the identity is -inf.

    Args:
        channels: features of an element.
        fill_value: what ``lower`` answers for an empty set, whose value is -inf.
    """

    def __init__(self, channels: int | None = None, fill_value: float = 0.0) -> None:
        super().__init__(channels)
        self.fill_value = fill_value

    def combine(self, left: Tensor, right: Tensor) -> Tensor:
        shift = finite_shift(torch.maximum(left, right))
        return _log(shift, (left - shift).exp() + (right - shift).exp())

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> Tensor:
        return torch.full(self._identity_shape(n), -torch.inf, dtype=dtype, device=device)

    def lower(self, state: Tensor) -> Tensor:
        return state.masked_fill(state == -torch.inf, self.fill_value)

    def segment(self, state: Tensor, index: Tensor, dim_size: int) -> Tensor:
        shift = finite_shift(segment_max(state.detach(), index, dim_size))
        terms = (state - shift.index_select(0, index)).exp()
        return _log(shift, segment_sum(terms, index, dim_size))

    def weigh(self, state: Tensor, weight: Tensor) -> Tensor:
        return plus_log_weight(state, weight)


def _log(shift: Tensor, total: Tensor) -> Tensor:
    """``shift + log(total)``, and -inf with a gradient of 0 where the total is 0."""
    empty = total == 0
    return (shift + torch.where(empty, 1, total).log()).masked_fill(empty, -torch.inf)
