"""Several monoids at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lcm_graph.monoids.base import LAWS, Monoid
from lcm_graph.monoids.state import State


class Product(Monoid):
    """The direct product: every factor folds the same elements, the outputs stand side by side.

    A law holds for the product where it holds for all factors.

    Args:
        monoids: two or more monoids that take the same number of channels.

    Raises:
        ValueError: no monoid is given, or their channels differ.
        TypeError: one of them is not a :class:`Monoid`.
    """

    def __init__(self, *monoids: Monoid) -> None:
        if not monoids:
            raise ValueError("'Product' takes one or more monoids (got none)")
        for monoid in monoids:
            if not isinstance(monoid, Monoid):
                raise TypeError(f"'Product' takes monoids (got {type(monoid).__name__})")
        channels = {monoid.channels for monoid in monoids if monoid.channels is not None}
        if len(channels) > 1:
            raise ValueError(f"the factors of a Product must agree in channels (got {monoids})")
        super().__init__(channels.pop() if channels else None)
        self.monoids = nn.ModuleList(monoids)
        for law in (*LAWS, "recomputable"):
            setattr(self, law, all(getattr(monoid, law) for monoid in monoids))

    @property
    def factors(self) -> tuple[Monoid, ...]:
        return tuple(self.monoids)  # type: ignore[arg-type]

    @property
    def out_channels(self) -> int | None:
        total = 0
        for monoid in self.factors:
            if monoid.out_channels is None:
                return None
            total += monoid.out_channels
        return total

    def lift(self, x: Tensor) -> State:
        return tuple(monoid.lift(x) for monoid in self.factors)

    def combine(self, left: State, right: State) -> State:
        return tuple(
            monoid.combine(a, b) for monoid, a, b in zip(self.factors, left, right, strict=True)
        )

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> State:
        return tuple(monoid.identity(n, dtype=dtype, device=device) for monoid in self.factors)

    def lower(self, state: State) -> Tensor:
        outputs = [monoid.lower(s) for monoid, s in zip(self.factors, state, strict=True)]
        return torch.cat(outputs, dim=-1)

    def inverse(self, state: State) -> State:
        return tuple(monoid.inverse(s) for monoid, s in zip(self.factors, state, strict=True))

    def weigh(self, state: State, weight: Tensor) -> State:
        return tuple(monoid.weigh(s, weight) for monoid, s in zip(self.factors, state, strict=True))

    def place(self, state: State, rows: Tensor, n: int) -> State:
        return tuple(
            monoid.place(s, rows, n) for monoid, s in zip(self.factors, state, strict=True)
        )

    def reset_parameters(self) -> None:
        for monoid in self.factors:
            monoid.reset_parameters()

    def __repr__(self) -> str:
        return f"Product({', '.join(map(repr, self.factors))})"
