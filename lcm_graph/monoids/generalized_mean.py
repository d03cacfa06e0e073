"""A mean or a sum seen through a learned function of one variable."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lcm_graph.monoids.base import Monoid, check_positive
from lcm_graph.monoids.mean import count_dtype
from lcm_graph.monoids.segment import align, segment_sum, times_weight


class GeneralizedMeanState(NamedTuple):
    """The sum of f over the elements, and how many there are."""

    total: Tensor  # [n, channels], float32 or wider
    size: Tensor  # [n, 1]


class GeneralizedMean(Monoid):
    r""":math:`f^{-1}(n^{α-1} \sum f(x))` per channel, with a learned, increasing f and a learned α.

    That is GenAgg (Kortvelesy, Morad & Prorok, NeurIPS 2023, "Generalised f-mean aggregation for
    graph neural networks") with β = 0; any other β needs the mean before the sum can begin. α is
    the paper's: with f the identity, α = 1 is the sum and α = 0 the mean. What α = 0 gives for
    other f are quasi-arithmetic means, and α = 1 is a group on each channel. A singleton answers
    with its element, an empty set with 0.

    Where the paper trains a second network to be the inverse of the first, f has one in closed
    form here. It is a scaling, and then ``hidden`` times a shift and a bend

    .. math:: x \mapsto x \cosh s + \sqrt{x^2 + 1} \, \sinh s

    (the slope goes smoothly from :math:`e^{-s}` to :math:`e^s`, and the inverse is the bend by -s),
    and a last shift. Bends are bounded, :math:`|s| < 1`, and all slopes positive, so f takes every
    value and is close to linear far from 0. f is the identity where all its parameters are 0.
    At first the bends are small and random, spread over [-2, 2], and α is 0.

    States are float32 or wider, and f is computed in their precision, whatever the elements'; an
    output has the parameters' dtype.

    Args:
        channels: features of an element and of an output.
        hidden: bends of f.

    Raises:
        ValueError: an argument is not a positive integer.
    """

    invertible = True
    additive = True

    def __init__(self, channels: int, hidden: int = 8) -> None:
        super().__init__(check_positive("channels", channels))
        self.hidden = check_positive("hidden", hidden)
        self.log_scale = nn.Parameter(torch.empty(channels))
        self.bend = nn.Parameter(torch.empty(hidden, channels))  # s is its tanh
        self.shift = nn.Parameter(torch.empty(hidden + 1, channels))
        self.alpha = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.log_scale)
        nn.init.zeros_(self.alpha)
        nn.init.uniform_(self.bend, -0.5, 0.5)
        nn.init.zeros_(self.shift)
        if self.hidden > 1:
            with torch.no_grad():
                self.shift[0] = self.shift[-1] = 2
                self.shift[1:-1] = -4 / (self.hidden - 1)

    def function(self, x: Tensor) -> Tensor:
        """f of ``x [n, channels]``."""
        shift = self.shift.to(x.dtype)
        x = x * self.log_scale.to(x.dtype).exp() + shift[0]
        for bend, then in zip(self.bend.to(x.dtype).tanh(), shift[1:], strict=True):
            x = _bend(x, bend) + then
        return x

    def inverse_function(self, y: Tensor) -> Tensor:
        """The x of which ``y [n, channels]`` is f."""
        shift = self.shift.to(y.dtype)
        bends = self.bend.to(y.dtype).tanh()
        for bend, then in zip(bends.flip(0), shift[1:].flip(0), strict=True):
            y = _bend(y - then, -bend)
        return (y - shift[0]) * (-self.log_scale.to(y.dtype)).exp()

    def lift(self, x: Tensor) -> GeneralizedMeanState:
        self._check_elements(x)
        total = self.function(x.to(count_dtype(x.dtype)))
        return GeneralizedMeanState(total, total.new_ones(len(total), 1))

    def combine(
        self, left: GeneralizedMeanState, right: GeneralizedMeanState
    ) -> GeneralizedMeanState:
        return GeneralizedMeanState(left.total + right.total, left.size + right.size)

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> GeneralizedMeanState:
        dtype = count_dtype(self.alpha.dtype if dtype is None else dtype)
        device = self.alpha.device if device is None else device
        total = torch.zeros(self._identity_shape(n), dtype=dtype, device=device)
        return GeneralizedMeanState(total, total.new_zeros(n, 1))

    def lower(self, state: GeneralizedMeanState) -> Tensor:
        some = state.size > 0
        log = torch.where(some, state.size, 1).log()
        scaled = state.total * (log * (self.alpha.to(log.dtype) - 1)).exp()
        return torch.where(some, self.inverse_function(scaled), 0).to(self.alpha.dtype)

    def segment(
        self, state: GeneralizedMeanState, index: Tensor, dim_size: int
    ) -> GeneralizedMeanState:
        return GeneralizedMeanState(
            segment_sum(state.total, index, dim_size), segment_sum(state.size, index, dim_size)
        )

    def inverse(self, state: GeneralizedMeanState) -> GeneralizedMeanState:
        return GeneralizedMeanState(-state.total, -state.size)

    def weigh(self, state: GeneralizedMeanState, weight: Tensor) -> GeneralizedMeanState:
        size = state.size * align(weight, state.size)
        return GeneralizedMeanState(times_weight(state.total, weight), size)

    def __repr__(self) -> str:
        return f"GeneralizedMean({self.channels}, hidden={self.hidden})"


def _bend(x: Tensor, s: Tensor) -> Tensor:
    """``sinh(asinh(x) + s)``, an increasing function that ``_bend(·, -s)`` inverts."""
    return x * s.cosh() + (x.square() + 1).sqrt() * s.sinh()
