"""Softmax-weighted means: the state of attention."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lcm_graph.monoids.base import Monoid
from lcm_graph.monoids.segment import (
    finite_shift,
    plus_log_weight,
    segment_max,
    segment_sum,
    times_weight,
)


class SoftmaxState(NamedTuple):
    """Running maximum of the logits, and both sums scaled by its exponential."""

    maximum: Tensor  # [n, channels]
    norm: Tensor  # [n, channels]: Σ exp(logit - maximum)
    total: Tensor  # [n, channels]: Σ exp(logit - maximum) · x


class Softmax(Monoid):
    r"""``Σ softmax(t · x) · x`` per channel (Li et al., "DeeperGCN", 2020, eq. 6).

    With ``lift(x, logits)`` the weights come from elsewhere, as in attention; the state merges as
    in Milakov & Gimelshein, "Online normalizer calculation for softmax" (2018, Sec. 3).

    Args:
        channels: features of an element.
        temperature: the factor ``t``; larger is closer to a maximum, 0 is the mean.
        learn: whether ``t`` is a parameter.

    An empty set answers 0. Both sums are kept in the elements' dtype: in float16 they overflow
    beyond 65,504, where bfloat16 and float32 do not.
    """

    temperature: Tensor

    def __init__(
        self, channels: int | None = None, temperature: float = 1.0, learn: bool = False
    ) -> None:
        super().__init__(channels)
        if not isinstance(temperature, (int, float)):
            raise ValueError(f"'temperature' must be a number (got {temperature!r})")
        self.initial_temperature = float(temperature)
        value = torch.tensor(self.initial_temperature)
        if learn:
            self.temperature = nn.Parameter(value)
        else:
            self.register_buffer("temperature", value)

    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.temperature.fill_(self.initial_temperature)

    def __repr__(self) -> str:
        channels = "" if self.channels is None else f"{self.channels}, "
        learn = ", learn=True" if isinstance(self.temperature, nn.Parameter) else ""
        return f"Softmax({channels}temperature={self.initial_temperature}{learn})"

    def lift(self, x: Tensor, logits: Tensor | None = None) -> SoftmaxState:
        """Turn elements ``x [n, channels]`` into states.

        Args:
            x: floating point.
            logits: what to weigh by, ``[n, channels]`` or ``[n, 1]`` (default: ``t · x``).

        Raises:
            ValueError: ``x`` has another shape or is not floating point.
        """
        self._check_elements(x)
        scaled = x * self.temperature.to(x.dtype) if logits is None else logits.expand_as(x)
        return SoftmaxState(scaled, x.new_ones(1, 1).expand_as(x), x)

    def combine(self, left: SoftmaxState, right: SoftmaxState) -> SoftmaxState:
        maximum = torch.maximum(left.maximum, right.maximum).detach()
        shift = finite_shift(maximum)
        scale_left = (left.maximum - shift).exp()
        scale_right = (right.maximum - shift).exp()
        return SoftmaxState(
            maximum,
            left.norm * scale_left + right.norm * scale_right,
            left.total * scale_left + right.total * scale_right,
        )

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> SoftmaxState:
        zeros = torch.zeros(self._identity_shape(n), dtype=dtype, device=device)
        return SoftmaxState(torch.full_like(zeros, -torch.inf), zeros, zeros)

    def lower(self, state: SoftmaxState) -> Tensor:
        empty = (state.norm == 0) | (state.maximum == -torch.inf)
        return torch.where(empty, 0, state.total / torch.where(empty, 1, state.norm))

    def segment(self, state: SoftmaxState, index: Tensor, dim_size: int) -> SoftmaxState:
        maximum = segment_max(state.maximum.detach(), index, dim_size)
        scale = (state.maximum - finite_shift(maximum).index_select(0, index)).exp()
        return SoftmaxState(
            maximum,
            segment_sum(state.norm * scale, index, dim_size),
            segment_sum(state.total * scale, index, dim_size),
        )

    def weigh(self, state: SoftmaxState, weight: Tensor) -> SoftmaxState:
        present = (weight > 0).to(weight.dtype)
        return SoftmaxState(
            plus_log_weight(state.maximum, weight),
            times_weight(state.norm, present),
            times_weight(state.total, present),
        )
