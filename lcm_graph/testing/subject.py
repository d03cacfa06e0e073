"""A monoid on trial: fresh copies of it, and elements to try it on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lcm_graph.monoids import Monoid, State
from lcm_graph.monoids.state import leaves
from lcm_graph.reduce import segment_reduce

SIZES = (0, 1, 2, 3, 16, 17)
"""Sizes of sets that every fold is tried on."""


@dataclass(frozen=True)
class MonoidSubject:
    """See :func:`~lcm_graph.testing.check_monoid`."""

    monoid: Monoid
    channels: int
    seed: int
    dtype: torch.dtype
    elements: Callable[[int, torch.Generator], Tensor] | None = None

    def fresh(self, dtype: torch.dtype | None = None) -> Monoid:
        """A copy in eval mode whose floating-point parameters have ``dtype``."""
        return copy.deepcopy(self.monoid).to(self.dtype if dtype is None else dtype).eval()

    def draw(self, n: int, salt: int = 0, dtype: torch.dtype | None = None) -> Tensor:
        """``n`` elements ``[n, channels]``, the same for the same ``salt``."""
        generator = torch.Generator().manual_seed(1000 * self.seed + salt)
        if self.elements is None:
            x = torch.randn(n, self.channels, generator=generator, dtype=torch.float64)
        else:
            x = self.elements(n, generator)
        return x.to(self.dtype if dtype is None else dtype) if x.is_floating_point() else x

    def states(self, monoid: Monoid, n: int = 17, salt: int = 0) -> State:
        """States of ``n`` elements; with an odd ``salt`` each is already a combination of two."""
        state = monoid.lift(self.draw(n, salt))
        if salt % 2:
            state = monoid.combine(state, monoid.lift(self.draw(n, salt + 100)))
        return state

    def empty(self, monoid: Monoid, n: int = 1, dtype: torch.dtype | None = None) -> State:
        """``n`` identities."""
        return monoid.identity(n, dtype=self.dtype if dtype is None else dtype)

    def evaluate(self, monoid: nn.Module) -> Tensor:
        """Fold sets of :data:`SIZES`."""
        assert isinstance(monoid, Monoid)
        index = ragged_index(SIZES)
        states = monoid.lift(self.draw(len(index)))
        return monoid.lower(segment_reduce(monoid, states, index, dim_size=len(SIZES)))


def ragged_index(sizes: tuple[int, ...]) -> Tensor:
    """The set of each element, for sets of ``sizes`` laid end to end."""
    return torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))


def describe(state: State) -> Any:
    """The structure of a state, and the shape of an element and the dtype of each tensor."""
    if state is None:
        return None
    if isinstance(state, Tensor):
        return tuple(state.shape[1:]), str(state.dtype)
    return type(state).__name__, tuple(describe(field) for field in state)


def dtypes(state: State) -> list[torch.dtype]:
    """The dtype of each tensor of a state."""
    return [tensor.dtype for tensor in leaves(state)]
