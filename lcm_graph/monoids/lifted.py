"""A monoid behind a learned map of its elements."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lcm_graph.monoids.base import LAWS, Monoid
from lcm_graph.monoids.reset import reset_modules
from lcm_graph.monoids.state import State


class Lifted(Monoid):
    """``monoid`` with ``lift(x) = monoid.lift(module(x))``: an exact monoid that learns.

    Args:
        module: from ``[n, channels]`` to ``[n, monoid.channels]``, each row by itself.
        monoid: what to combine with; its laws are this one's.
        channels: features of an element, before the module.

    Raises:
        TypeError: ``monoid`` is not a :class:`Monoid`, or ``module`` is not a module.
    """

    def __init__(self, module: nn.Module, monoid: Monoid, channels: int | None = None) -> None:
        super().__init__(channels)
        if not isinstance(module, nn.Module):
            raise TypeError(f"'module' must be a torch module (got {type(module).__name__})")
        if not isinstance(monoid, Monoid):
            raise TypeError(f"'monoid' must be a Monoid (got {type(monoid).__name__})")
        self.module = module
        self.monoid = monoid
        for law in (*LAWS, "recomputable"):
            setattr(self, law, getattr(monoid, law))

    @property
    def out_channels(self) -> int | None:
        return self.monoid.out_channels

    @property
    def folds_as(self) -> Monoid:
        return self.monoid.folds_as

    def lift(self, x: Tensor) -> State:
        return self.monoid.lift(self.module(self._check_elements(x)))

    def combine(self, left: State, right: State) -> State:
        return self.monoid.combine(left, right)

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> State:
        return self.monoid.identity(n, dtype=dtype, device=device)

    def lower(self, state: State) -> Tensor:
        return self.monoid.lower(state)

    def segment(self, state: State, index: Tensor, dim_size: int) -> State | None:
        return self.monoid.segment(state, index, dim_size)

    def inverse(self, state: State) -> State:
        return self.monoid.inverse(state)

    def weigh(self, state: State, weight: Tensor) -> State:
        return self.monoid.weigh(state, weight)

    def place(self, state: State, rows: Tensor, n: int) -> State:
        return self.monoid.place(state, rows, n)

    def reset_parameters(self) -> None:
        reset_modules(self.module)
        self.monoid.reset_parameters()

    def __repr__(self) -> str:
        module = " ".join(repr(self.module).split())  # PyG stores one line for each layer
        return f"Lifted({module}, {self.monoid})"
