"""Learned operators whose states have one scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lcm_graph.monoids.base import Monoid
from lcm_graph.monoids.learned import Adjoined, LearnedMonoid


class Normalized(LearnedMonoid):
    """A learned monoid whose states are rescaled to a root mean square of 1 over their channels
    (Zhang & Sennrich, "Root Mean Square Layer Normalization", 2019, eq. 4, without the gain).

    Lifted elements and whatever the operator gives lie on one sphere, so the states of a set of
    100,000, 17 levels deep, are of the size that the operator saw in training on sets of 16. The
    magnitude of an element is lost; a further channel that is always 1 keeps it.

    The wrapped monoid keeps its parameters, ``empty`` among them, and reads states as before: the
    answer to an empty set is not rescaled, and of a :class:`BinaryLSTM`, whose ``h`` and ``c`` are
    rescaled together, ``lower`` gives ``h``. Commutative where the wrapped one is, but idempotent
    nowhere: dividing by a root mean square of 1 rounds. What fractional weights make of two states
    (see :meth:`weigh`) lies inside the sphere.

    Args:
        monoid: what to wrap.
        gain: whether to multiply each channel of a state by a learned number, 1 at first.
        eps: a value with a root mean square below ``eps`` is divided by ``eps`` instead; so 0 stays
            0, and no gradient is multiplied by more than about ``1 / eps``.

    Raises:
        TypeError: ``monoid`` is not a :class:`LearnedMonoid`.
        ValueError: ``eps`` is not a number from 1e-9 on.
    """

    def __init__(self, monoid: LearnedMonoid, *, gain: bool = False, eps: float = 1e-3) -> None:
        if not isinstance(monoid, LearnedMonoid):
            raise TypeError(
                "'monoid' must be a LearnedMonoid, e.g. BinaryGRU(64), since what is rescaled is "
                f"its operator's result (got {monoid!r})"
            )
        if not isinstance(eps, (int, float)) or not 1e-9 <= eps < float("inf"):
            raise ValueError(
                f"'eps' must be a number from 1e-9 on (got {eps!r}), since below it gradients "
                "at 0 overflow; the default is 1e-3"
            )
        Monoid.__init__(self, monoid.channels)  # not LearnedMonoid's: `empty` is the wrapped one's
        self.monoid = monoid
        self.eps = float(eps)
        ones = torch.ones_like(monoid.identity(1).value[0])
        self.gain = nn.Parameter(ones) if gain else None
        for law in ("commutative", "recomputable"):
            setattr(self, law, getattr(monoid, law))

    @property
    def empty(self) -> nn.Parameter:  # type: ignore[override]
        """The wrapped monoid's answer to an empty set."""
        return self.monoid.empty

    @property
    def out_channels(self) -> int | None:
        return self.monoid.out_channels

    def reset_parameters(self) -> None:
        self.monoid.reset_parameters()
        if self.gain is not None:
            nn.init.ones_(self.gain)

    def __repr__(self) -> str:
        gain = "" if self.gain is None else ", gain=True"
        return f"Normalized({self.monoid}{gain}, eps={self.eps})"

    def lift(self, x: Tensor) -> Adjoined:
        state = self.monoid.lift(x)
        return Adjoined(self._rescale(state.value), state.present)

    def operator(self, a: Tensor, b: Tensor) -> Tensor:
        return self._rescale(self.monoid.operator(a, b))

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> Adjoined:
        return self.monoid.identity(n, dtype=dtype, device=device)

    def lower(self, state: Adjoined) -> Tensor:
        return self.monoid.lower(state)

    def _rescale(self, value: Tensor) -> Tensor:
        unit = unit_rms(value, self.eps)
        return unit if self.gain is None else unit * self.gain


def unit_rms(x: Tensor, eps: float = 1e-3) -> Tensor:
    """``x [n, channels]`` over its root mean square, or over ``eps`` where that is less.

    Computed in float32 at least, whose squares hold magnitudes up to 1e19; in the dtype of ``x``.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * wide.square().mean(-1, keepdim=True).clamp_min(eps * eps).rsqrt()).to(x.dtype)
