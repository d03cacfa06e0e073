"""Learned operators made monoids by adjoining an identity."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lcm_graph.monoids.base import Monoid
from lcm_graph.monoids.reset import reset_modules
from lcm_graph.monoids.segment import align


class Adjoined(NamedTuple):
    """A value, and whether there is one.

    ``present`` is 1 for an element and 0 for the identity (between them, see
    :meth:`LearnedMonoid.weigh`), or ``None`` where every element is present, as it is for elements
    that were just lifted: folding those costs nothing extra.
    """

    value: Tensor  # [n, channels]
    present: Tensor | None = None  # [n], in [0, 1]


class LearnedMonoid(Monoid):
    r"""A learned operator on ``[n, channels]`` with an exact identity adjoined to it.

    A neural operator has no neutral element of its own, so one is added: *absence*.
    ``combine(x, identity) == x`` bit for bit, and an empty set answers with the learned vector
    ``empty`` (zero at first). Associativity is not claimed; the canonical tree gives a set one
    bracketing all the same.

    A subclass writes :meth:`operator`, commutative by construction.

    Args:
        channels: features of an element, of a state and of an output.
    """

    associative = False

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        if channels is None:
            raise ValueError(f"'channels' of {type(self).__name__} must be given (got None)")
        self.empty = nn.Parameter(torch.zeros(channels))

    def operator(self, a: Tensor, b: Tensor) -> Tensor:
        """The learned operator: ``[n, channels]`` twice gives ``[n, channels]``."""
        raise NotImplementedError

    def lift(self, x: Tensor) -> Adjoined:
        return Adjoined(self._check_elements(x))

    def combine(self, left: Adjoined, right: Adjoined) -> Adjoined:
        both = self.operator(left.value, right.value)
        if left.present is None and right.present is None:
            return Adjoined(both)
        a = _presence(left, both.dtype)
        b = _presence(right, both.dtype)
        union = a + b - a * b
        blend = (a * b) * both + ((a * (1 - b)) * left.value + ((1 - a) * b) * right.value)
        blend = blend / torch.where(union > 0, union, 1)
        # At 0 and 1 the law is exact: nothing of the other terms, not even a NaN, gets in.
        value = torch.where(a * b == 1, both, blend)
        value = torch.where(b == 0, left.value, torch.where(a == 0, right.value, value))
        return Adjoined(value, union.squeeze(-1))

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> Adjoined:
        dtype = self.empty.dtype if dtype is None else dtype
        device = self.empty.device if device is None else device
        shape = self._identity_shape(n)
        return Adjoined(
            torch.zeros(shape, dtype=dtype, device=device),
            torch.zeros(n, dtype=dtype, device=device),
        )

    def lower(self, state: Adjoined) -> Tensor:
        present = _presence(state, state.value.dtype)
        if state.present is None and not (torch.is_grad_enabled() and self.empty.requires_grad):
            return state.value
        # Also where every set has elements: `empty` then takes part with a gradient of 0, which
        # distributed data-parallel training asks of every parameter.
        empty = self.empty.to(state.value.dtype)
        blend = present * state.value + (1 - present) * empty
        return torch.where(present == 1, state.value, torch.where(present == 0, empty, blend))

    def weigh(self, state: Adjoined, weight: Tensor) -> Adjoined:
        """Interpolate from absence (0) to presence (1).

        Two elements of weights a and b combine to the mean of what their presence or absence would
        give, as if drawn with these probabilities: ``ab`` both, ``a(1 - b)`` the left, ``(1 - a)b``
        the right, over the weight ``a + b - ab`` of the result.
        """
        present = _presence(state, state.value.dtype) * align(weight, state.value)
        return Adjoined(torch.where(present == 0, 0, state.value), present.squeeze(-1))

    def place(self, state: Adjoined, rows: Tensor, n: int) -> Adjoined:
        present = _presence(state, state.value.dtype).squeeze(-1)
        return super().place(Adjoined(state.value, present), rows, n)

    def reset_parameters(self) -> None:
        """Draw the parameters anew: ``empty``, and those of modules that know how to.

        A subclass with parameters outside of modules overrides it, and then resets all of its own.
        """
        nn.init.zeros_(self.empty)
        if type(self).reset_parameters is LearnedMonoid.reset_parameters:
            for module in self.children():
                reset_modules(module)


def _presence(state: Adjoined, dtype: torch.dtype) -> Tensor:
    """The weight of each element as ``[n, 1]``."""
    if state.present is None:
        return torch.ones((), dtype=dtype, device=state.value.device).expand(len(state.value), 1)
    return state.present.to(dtype).unsqueeze(-1)
