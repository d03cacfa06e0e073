"""The k largest or smallest elements of each channel."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_graph.monoids.base import Monoid, check_positive
from lcm_graph.monoids.segment import plus_log_weight


class TopK(Monoid):
    """The ``k`` largest (or smallest) values per channel, in order.

    The state is ``[n, k, channels]``, sorted from the extreme inwards and padded with infinities.
    For k = 2 it is the monoid of the paper's running example (Ong & Veličković 2022, Sec. 2.2).
    Differentiable: each output's gradient goes to the element it came from, or to one or several of
    those that tie for it.

    Args:
        channels: features of an element.
        k: how many to keep.
        largest: keep the largest (default) or the smallest.
        fill_value: what ``lower`` answers where a set has fewer than ``k`` elements.

    ``lower`` gives ``[n, k * channels]``: all channels of the first, then of the second, …
    """

    def __init__(
        self,
        channels: int | None = None,
        k: int = 2,
        largest: bool = True,
        fill_value: float = 0.0,
    ) -> None:
        super().__init__(channels)
        self.k = check_positive("k", k)
        self.largest = largest
        self.fill_value = fill_value

    @property
    def out_channels(self) -> int | None:
        return None if self.channels is None else self.channels * self.k

    @property
    def _absent(self) -> float:
        return -torch.inf if self.largest else torch.inf

    def lift(self, x: Tensor) -> Tensor:
        self._check_elements(x)
        padding = x.new_full((x.size(0), self.k - 1, x.size(1)), self._absent)
        return torch.cat([x.unsqueeze(1), padding], dim=1)

    def combine(self, left: Tensor, right: Tensor) -> Tensor:
        # Of two sorted lists, the i-th of one against the i-th last of the other leaves the k best.
        return self._sort(self._better(left, right.flip(1)))

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> Tensor:
        n, channels = self._identity_shape(n)
        return torch.full((n, self.k, channels), self._absent, dtype=dtype, device=device)

    def lower(self, state: Tensor) -> Tensor:
        return state.masked_fill(state == self._absent, self.fill_value).flatten(1)

    def weigh(self, state: Tensor, weight: Tensor) -> Tensor:
        if self.largest:
            return plus_log_weight(state, weight)
        return -plus_log_weight(-state, weight)

    def place(self, state: Tensor, rows: Tensor, n: int) -> Tensor:
        blank = state.new_full((n, *state.shape[1:]), self._absent)  # whatever the channels are
        return blank.index_copy(0, rows, state)

    def _better(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.maximum(a, b) if self.largest else torch.minimum(a, b)

    def _worse(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.minimum(a, b) if self.largest else torch.maximum(a, b)

    def _sort(self, bitonic: Tensor) -> Tensor:
        """Sort lists ``[n, k, channels]`` that first fall and then rise, or the other way round."""
        if self.k & (self.k - 1):
            return bitonic.sort(dim=1, descending=self.largest).values
        n, k, channels = bitonic.shape
        half = k // 2
        while half:
            pairs = bitonic.view(n, k // (2 * half), 2, half, channels)
            first, second = pairs.unbind(2)
            swapped = torch.stack([self._better(first, second), self._worse(first, second)], dim=2)
            bitonic = swapped.view(n, k, channels)
            half //= 2
        return bitonic

    def __repr__(self) -> str:
        channels = "" if self.channels is None else f"{self.channels}, "
        return f"TopK({channels}k={self.k}, largest={self.largest})"
