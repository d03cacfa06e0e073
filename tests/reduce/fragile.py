"""Monoids that fail when they are told to, and that compute in other dtypes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lcm_graph.monoids import BinaryGRU, Lifted, Monoid
from tests.references import Ordered


class Fails(Ordered):
    """Raises at the ``after``-th combine from now, if that is set."""

    after: int | None = None

    def combine(self, left: Tensor, right: Tensor) -> Tensor:
        if self.after is not None:
            self.after -= 1
            if self.after < 0:
                raise RuntimeError("no")
        return super().combine(left, right)


class Complex(Monoid):
    """Products of complex numbers."""

    def lift(self, x: Tensor) -> Tensor:
        return torch.complex(x, 2 * x)

    def combine(self, left: Tensor, right: Tensor) -> Tensor:
        return left * right

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> Tensor:
        wide = torch.complex64 if dtype in (None, torch.float32) else torch.complex128
        return torch.ones(self._identity_shape(n), dtype=wide, device=device)

    def lower(self, state: Tensor) -> Tensor:
        return torch.cat([state.real, state.imag], dim=1)


def behind_a_layer(channels: int) -> Lifted:
    """A monoid whose lift autocast computes in another dtype."""
    return Lifted(nn.Linear(channels, channels), BinaryGRU(channels))
