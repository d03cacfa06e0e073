"""Turning clocks: learned homomorphisms into rotations, whole once they are learned."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from lcm_graph.monoids.base import Monoid, check_positive
from lcm_graph.monoids.mean import count_dtype
from lcm_graph.monoids.segment import segment_sum, times_weight


class Rotation(Monoid):
    r"""Products of learned unit complex numbers, :math:`e^{2 \pi i\, w_j \cdot x}`.

    Each clock :math:`j` is turned by :math:`w_j \cdot x` turns by each element. Rotations of
    order 2 count parity, those of order 10 sums modulo 10; a clock learns by gradient descent which
    it is. What a gradient cannot do is to learn :math:`1/10` without an error, and an error of a
    thousandth is lost after a hundred elements. So a clock whose weights are all whole numbers of
    steps of :math:`1/m` turn to within ``snap`` steps, for one :math:`m` up to ``max_order``, turns
    by just these, counted in whole steps: for elements of whole numbers (bits, counts, one-hot
    classes) its answer is then exact at any size. While training, the gradient passes this rounding
    as if it were not there, so that a clock can go on learning. Features are taken to be of the
    order of 1. Clocks without such an order turn as learned.

    The state is ``[n, clocks]``, float32 or wider: positions from 0 to the clock's order, which is
    1 turn where it has not snapped. ``lower`` gives ``[n, 2 clocks]``, cosines and sines. An empty
    set stands at 0.

    Args:
        channels: features of an element.
        clocks: how many.
        snap: how far from a whole number of steps of ``1/m`` turn, in steps; 0 to snap nowhere.
            At 0.03, errors that sets of 16 elements hide, less than half a step in all, are mended.
        max_order: the largest ``m``.

    Raises:
        ValueError: an argument is out of range.
    """

    invertible = True

    def __init__(
        self, channels: int, clocks: int = 32, snap: float = 0.03, max_order: int = 12
    ) -> None:
        super().__init__(check_positive("channels", channels))
        self.clocks = check_positive("clocks", clocks)
        self.max_order = check_positive("max_order", max_order)
        # Fractions a/m and b/n are at least 1/mn apart, and snap/m + snap/n has to be less.
        most = 1 / max(2 * max_order - 1, 2)
        if not isinstance(snap, (int, float)) or not 0 <= snap < most:
            raise ValueError(
                f"'snap' must be from 0 to below {most:.3g}, so that no number is near fractions "
                f"of two orders up to {max_order} (got {snap!r})"
            )
        self.snap = snap
        self.weight = nn.Parameter(torch.empty(clocks, channels))
        self.reset_parameters()

    @property
    def out_channels(self) -> int:
        return 2 * self.clocks

    def orders(self) -> Tensor:
        """The order of each clock, int64 ``[clocks]``; 0 where it has not snapped to one."""
        turns = self.weight.detach().double()
        orders = torch.zeros(self.clocks, dtype=torch.int64, device=turns.device)
        if self.snap == 0:
            return orders
        for m in range(self.max_order, 0, -1):  # the smallest that will do comes last
            whole = (turns * m).round()
            near = (turns * m - whole).abs().amax(1) <= self.snap
            # A clock of tiny weights stands for a small slope, not for nothing.
            orders = torch.where(near & whole.any(1), m, orders)
        return orders

    def lift(self, x: Tensor) -> Tensor:
        self._check_elements(x)
        dtype = count_dtype(x.dtype)
        clocks = self._clocks(dtype)
        with torch.autocast(x.device.type, enabled=False):  # errors of angles add up
            turned = linear(x.to(dtype), clocks.weight.to(dtype))
        return torch.remainder(turned, clocks.positions)

    def combine(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.remainder(left + right, self._clocks(left.dtype).positions)

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> Tensor:
        dtype = count_dtype(self.weight.dtype if dtype is None else dtype)
        device = self.weight.device if device is None else device
        return torch.zeros(n, self.clocks, dtype=dtype, device=device)

    def lower(self, state: Tensor) -> Tensor:
        angle = state * (2 * math.pi / self._clocks(state.dtype).positions)
        return torch.cat([angle.cos(), angle.sin()], dim=-1).to(self.weight.dtype)

    def segment(self, state: Tensor, index: Tensor, dim_size: int) -> Tensor:
        total = segment_sum(state.double(), index, dim_size)
        return torch.remainder(total, self._clocks(torch.float64).positions).to(state.dtype)

    def inverse(self, state: Tensor) -> Tensor:
        return torch.remainder(-state, self._clocks(state.dtype).positions)

    def weigh(self, state: Tensor, weight: Tensor) -> Tensor:
        return times_weight(state, weight)

    def reset_parameters(self) -> None:
        # Small turns: by large ones, sets of a few elements already point anywhere.
        nn.init.normal_(self.weight, std=0.5 * self.weight.size(1) ** -0.5)

    def _clocks(self, dtype: torch.dtype) -> _Clocks:
        if self.snap == 0:
            one = torch.ones(self.clocks, dtype=dtype, device=self.weight.device)
            return _Clocks(self.weight, one)
        orders = self.orders()
        snapped = (orders > 0).unsqueeze(1)
        positions = orders.clamp_min(1)
        weight = self.weight * positions.unsqueeze(1)
        whole = weight.round().detach()
        if self.training:
            whole = weight + (whole - weight).detach()
        return _Clocks(torch.where(snapped, whole, self.weight), positions.to(dtype))

    def __repr__(self) -> str:
        return (
            f"Rotation({self.channels}, clocks={self.clocks}, snap={self.snap}, "
            f"max_order={self.max_order})"
        )


class _Clocks(NamedTuple):
    weight: Tensor  # [clocks, channels]: positions that a feature turns by
    positions: Tensor  # [clocks]: positions of a full turn
