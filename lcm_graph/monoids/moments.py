"""Count, mean and variance in one pass, merged without cancellation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lcm_graph.monoids.base import Monoid
from lcm_graph.monoids.mean import count_dtype, divide
from lcm_graph.monoids.segment import (
    align,
    finite_shift,
    segment_max,
    segment_sum,
    times_weight,
)


class MomentsState(NamedTuple):
    """Number of elements, their mean, and the sum of squared deviations from it."""

    size: Tensor  # [n, 1], float32 or wider
    mean: Tensor  # [n, channels]
    m2: Tensor  # [n, channels]


class Moments(Monoid):
    """Mean, variance and standard deviation per channel.

    States merge by the pairwise update of Chan, Golub & LeVeque ("Updating formulae and a pairwise
    algorithm for computing sample variances", 1979, eq. 2.1), which is stable in any order of
    merging and for any mean.

    Args:
        channels: features of an element.
        statistics: which of ``"mean"``, ``"var"``, ``"std"`` ``lower`` gives, side by side.
        unbiased: divide by n - 1 instead of n.

    A statistic that is not defined (any of an empty set; the unbiased variance of a singleton) is
    0. The gradient of a standard deviation of 0 is 0.
    """

    invertible = True

    def __init__(
        self,
        channels: int | None = None,
        statistics: Sequence[str] = ("mean", "std"),
        unbiased: bool = False,
    ) -> None:
        super().__init__(channels)
        unknown = [name for name in statistics if name not in _STATISTICS]
        if unknown or not statistics or isinstance(statistics, str):
            raise ValueError(
                f"'statistics' must name one or more of {sorted(_STATISTICS)} (got {statistics!r})"
            )
        self.statistics = tuple(statistics)
        self.unbiased = unbiased

    @property
    def out_channels(self) -> int | None:
        return None if self.channels is None else self.channels * len(self.statistics)

    def lift(self, x: Tensor) -> MomentsState:
        self._check_elements(x)
        count = x.new_ones(1, 1, dtype=count_dtype(x.dtype)).expand(x.size(0), 1)
        return MomentsState(count, x, x.new_zeros(1, 1).expand_as(x))

    def combine(self, left: MomentsState, right: MomentsState) -> MomentsState:
        size = left.size + right.size
        mean = left.mean * divide(left.size, size) + right.mean * divide(right.size, size)
        delta = right.mean - left.mean
        m2 = left.m2 + right.m2 + delta.square() * divide(left.size * right.size, size)
        empty = size == 0
        return MomentsState(
            size,
            torch.where(empty, 0, mean).to(left.mean.dtype),
            torch.where(empty, 0, m2).to(left.m2.dtype),
        )

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> MomentsState:
        zeros = torch.zeros(self._identity_shape(n), dtype=dtype, device=device)
        return MomentsState(zeros.new_zeros(n, 1, dtype=count_dtype(zeros.dtype)), zeros, zeros)

    def lower(self, state: MomentsState) -> Tensor:
        return torch.cat([_STATISTICS[name](self, state) for name in self.statistics], dim=-1)

    def segment(self, state: MomentsState, index: Tensor, dim_size: int) -> MomentsState:
        # Twice around a value close to the mean: sums of numbers far from 0 lose their last digits.
        size = segment_sum(state.size, index, dim_size)
        near = finite_shift(segment_max(state.mean.detach(), index, dim_size))
        near = (near + self._around(state, near, size, index)[0]).detach()
        shift, m2 = self._around(state, near, size, index)
        return MomentsState(size, (near + shift).to(state.mean.dtype), m2.to(state.m2.dtype))

    def _around(
        self, state: MomentsState, near: Tensor, size: Tensor, index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean less ``near``, and m2, of sets of ``size`` elements."""
        deviation = state.mean - near.index_select(0, index)
        shift = divide(segment_sum(deviation * state.size, index, size.size(0)), size)
        around = segment_sum(state.m2 + deviation.square() * state.size, index, size.size(0))
        return shift, around - shift.square() * size

    def inverse(self, state: MomentsState) -> MomentsState:
        return MomentsState(-state.size, state.mean, -state.m2)

    def weigh(self, state: MomentsState, weight: Tensor) -> MomentsState:
        size = state.size * align(weight, state.size)
        mean = torch.where(size == 0, 0, state.mean)
        return MomentsState(size, mean, times_weight(state.m2, weight))

    def variance(self, state: MomentsState) -> Tensor:
        """Variance ``[n, channels]`` of the elements folded into ``state``."""
        degrees = state.size - 1 if self.unbiased else state.size
        return divide(state.m2, degrees.clamp_min(0)).to(state.m2.dtype)

    def deviation(self, state: MomentsState) -> Tensor:
        """Standard deviation ``[n, channels]`` of the elements folded into ``state``."""
        variance = self.variance(state)
        flat = variance <= 0  # where the root has no gradient; NaN stays NaN
        return torch.where(flat, 0, torch.where(flat, 1, variance).sqrt())

    def __repr__(self) -> str:
        channels = "" if self.channels is None else f"{self.channels}, "
        unbiased = ", unbiased=True" if self.unbiased else ""
        return f"Moments({channels}statistics={self.statistics}{unbiased})"


_STATISTICS: dict[str, Callable[[Moments, MomentsState], Tensor]] = {
    "mean": lambda monoid, state: state.mean,
    "var": Moments.variance,
    "std": Moments.deviation,
}
