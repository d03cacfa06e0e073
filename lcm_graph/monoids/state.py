"""States: what a monoid combines.

A state holds ``n`` elements along dim 0. It is a tensor, a ``NamedTuple`` of tensors, or a tuple
of states (a :class:`~lcm_graph.monoids.Product`). A field may be ``None`` when the monoid that owns
the state says what ``None`` stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from torch import Tensor

State: TypeAlias = Any
"""A tensor ``[n, ...]``, or a (named) tuple of states."""


def map_state(function: Callable[..., Tensor], state: State, *others: State) -> State:
    """Apply ``function`` to the tensors of one or more states of the same structure."""
    if state is None:
        if any(other is not None for other in others):
            raise ValueError(
                "states differ in structure: a field is None in one and not in another"
            )
        return None
    if isinstance(state, Tensor):
        return function(state, *others)
    fields = [map_state(function, *field) for field in zip(state, *others, strict=True)]
    return type(state)(*fields) if hasattr(state, "_fields") else tuple(fields)


def leaves(state: State) -> list[Tensor]:
    """The tensors of a state, in a fixed order; ``None`` fields are left out."""
    return list(_iterate(state))


def unflatten(like: State, tensors: Sequence[Tensor]) -> State:
    """Build a state with the structure of ``like`` from the tensors that :func:`leaves` gives."""
    rest = iter(tensors)
    return map_state(lambda _: next(rest), like)


def take(state: State, rows: Tensor) -> State:
    """The elements ``rows`` (int64 ``[m]``) of a state, as a new state of ``m`` elements."""
    return map_state(lambda tensor: tensor.index_select(0, rows), state)


def num_elements(state: State) -> int:
    """How many elements a state holds; ValueError if its tensors disagree or it has none."""
    # A list: a set would make a compiler fix the sizes.
    sizes = [tensor.size(0) if tensor.dim() else -1 for tensor in _iterate(state)]
    if not sizes or -1 in sizes or any(size != sizes[0] for size in sizes):
        shapes = [tuple(tensor.shape) for tensor in _iterate(state)]
        raise ValueError(
            "'states' must be a tensor or a tuple of tensors with the elements along dim 0 "
            f"(got shapes {shapes})"
        )
    return sizes[0]


def _iterate(state: State) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, tuple):
        for field in state:
            yield from _iterate(field)
    elif state is not None:
        raise ValueError(
            f"'states' must be a tensor or a tuple of tensors (got {type(state).__name__})"
        )
