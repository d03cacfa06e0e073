"""The protocol of a commutative monoid: ``lift``, ``combine``, ``identity``, ``lower``."""

from __future__ import annotations

import operator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lcm_graph.monoids.state import State, leaves, map_state

LAWS = ("commutative", "associative", "idempotent", "invertible", "additive")


class Monoid(nn.Module):
    r"""A monoid :math:`(M, \oplus, e)` on states, with maps into and out of it.

    A set :math:`X` is folded as ``lower(lift(x_1) ⊕ lift(x_2) ⊕ …)`` (Ong & Veličković 2022,
    Sec. 2, Prop. 1). A subclass writes :meth:`combine` and :meth:`identity`, and :meth:`lift` and
    :meth:`lower` where the state is not the element itself. The class attributes say which
    laws hold *exactly* (up to rounding where the operator rounds);
    :func:`lcm_graph.testing.check_monoid` holds a monoid to them.

    Calling a monoid combines: ``monoid(left, right)`` is ``monoid.combine(left, right)``.

    Args:
        channels: features of an element, or ``None`` where the monoid works on any number of them
            (then :meth:`identity` cannot be asked for, since its shape is not known).
    """

    commutative: ClassVar[bool] = True
    associative: ClassVar[bool] = True
    idempotent: ClassVar[bool] = False
    invertible: ClassVar[bool] = False
    additive: ClassVar[bool] = False
    """Whether ``combine`` adds the tensors of two states, so that machines can."""

    recomputable: bool = True
    """Whether ``combine`` reaches tensors that need gradients only through parameters and buffers.

    If not, a fold keeps autograd's graph instead of recomputing ``combine`` in the backward pass.
    """

    def __init__(self, channels: int | None = None) -> None:
        super().__init__()
        self.channels = None if channels is None else check_positive("channels", channels)

    # What a monoid is --------------------------------------------------------------------------

    def lift(self, x: Tensor) -> State:
        """Turn elements ``x [n, channels]`` (floating point) into states.

        Raises:
            ValueError: ``x`` has another shape or is not floating point.
        """
        return self._check_elements(x)

    def combine(self, left: State, right: State) -> State:
        """``left ⊕ right``, element by element: two states of ``n`` elements give one of ``n``."""
        raise NotImplementedError(f"{type(self).__name__} must define combine(left, right)")

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> State:
        """``n`` copies of the neutral element."""
        raise NotImplementedError(
            f"{type(self).__name__} must define identity(n, *, dtype=None, device=None)"
        )

    def lower(self, state: State) -> Tensor:
        """Turn states of ``n`` sets into outputs ``[n, out_channels]``."""
        return state

    @property
    def out_channels(self) -> int | None:
        """Features of an output; ``None`` if it follows the elements'.

        A property to override where ``lower`` gives another number than ``channels``.
        """
        return self.channels

    # What a monoid may add ---------------------------------------------------------------------

    def segment(self, state: State, index: Tensor, dim_size: int) -> State | None:
        """The closed form of a fold, or ``None`` where there is none.

        Args:
            state: ``n`` elements.
            index: int64 ``[n]`` in ``[0, dim_size)``, unsorted: the set of each element.
            dim_size: number of sets; a set without elements answers with the identity.
        """
        return None

    @property
    def factors(self) -> tuple[Monoid, ...]:
        """The independent monoids whose states make up this one's, if it is a product."""
        return ()

    @property
    def folds_as(self) -> Monoid:
        """The monoid that lifted states are folded with: itself, unless it adds a lift alone."""
        return self

    def inverse(self, state: State) -> State:
        """The state that undoes ``state``: ``combine(state, inverse(state))`` is the identity.

        Raises:
            TypeError: the monoid is not ``invertible``.
        """
        raise TypeError(
            f"{type(self).__name__} has no inverse: elements cannot be taken out of its states"
        )

    def weigh(self, state: State, weight: Tensor) -> State:
        """Interpolate from the identity (``weight`` 0) to ``state`` (``weight`` 1).

        Explainers mask messages with it: for a maximum, multiplying a message by 0 is not the same
        as leaving it out.

        Args:
            state: ``n`` elements.
            weight: floating point ``[n]`` in [0, 1].

        Raises:
            TypeError: the monoid defines no interpolation.
        """
        raise TypeError(f"{type(self).__name__} defines no interpolation towards its identity")

    def place(self, state: State, rows: Tensor, n: int) -> State:
        """``n`` identities, with the elements of ``state`` at ``rows`` (int64, distinct)."""
        tensors = leaves(state)
        dtype = next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), None)
        blank = self.identity(n, dtype=dtype, device=tensors[0].device)
        return map_state(
            lambda e, s: e.to(s.dtype).expand(n, *s.shape[1:]).index_copy(0, rows, s), blank, state
        )

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""

    # What follows ------------------------------------------------------------------------------

    def forward(self, left: State, right: State) -> State:
        return self.combine(left, right)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'' if self.channels is None else self.channels})"

    def _check_elements(self, x: Tensor) -> Tensor:
        name = type(self).__name__
        if x.dim() != 2 or self.channels not in (None, x.size(-1)):
            wanted = "channels" if self.channels is None else self.channels
            raise ValueError(f"{name} takes elements [n, {wanted}] (got shape {tuple(x.shape)})")
        return self._check_floating(x)

    def _check_floating(self, x: Tensor) -> Tensor:
        if not x.is_floating_point():
            raise ValueError(
                f"{type(self).__name__} takes floating-point elements (got {x.dtype}); convert "
                "them with x.float()"
            )
        return x

    def _identity_shape(self, n: int) -> tuple[int, int]:
        if self.channels is None:
            raise ValueError(
                f"the identity of {type(self).__name__}() has no known shape: "
                f"say how many channels it has, e.g. {type(self).__name__}(64)"
            )
        return (n, self.channels)


def check_positive(name: str, value: int, remedy: str = "") -> int:
    """Returns ``value``; ValueError naming the argument if it is not a positive integer."""
    number = _integer(value)
    if number is None or number < 1:
        raise ValueError(f"'{name}' must be a positive integer (got {value!r}){remedy}")
    return number


def check_at_least(name: str, value: int, least: int = 0) -> int:
    """Returns ``value``; ValueError naming the argument if it is no integer, or below ``least``."""
    number = _integer(value)
    if number is None:
        raise ValueError(f"'{name}' must be an integer (got {value!r})")
    if number < least:
        raise ValueError(f"'{name}' must be at least {least} (got {value})")
    return number


def _integer(value: Any) -> int | None:
    """An int, also of numpy's; ``None`` of what is none."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None
