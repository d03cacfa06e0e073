"""A counter of subtrees as named tensors, and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lcm_graph.monoids import Monoid, State
from lcm_graph.monoids.state import leaves, map_state, unflatten
from lcm_graph.reduce.streams.counter import Counter, Kept


def counter_tensors(counter: Counter) -> dict[str, Tensor]:
    """``"counts"``, the elements of each set; ``"none.0"``, …, a state of no elements; and for each
    level the sets that have a state there and the tensors of these states. Without gradients."""
    found = {"counts": counter.counts.clone()}
    found |= {f"none.{number}": tensor for number, tensor in enumerate(leaves(counter.none))}
    for level, slots in enumerate(counter.levels):
        sets = counter.holding(level)
        if not sets.numel():
            continue
        found[f"levels.{level}.sets"] = sets
        for number, tensor in enumerate(leaves(slots.get(sets))):
            found[f"levels.{level}.{number}"] = tensor.detach()
    return found


def counter_from(tensors: Mapping[str, Tensor], monoid: Monoid, structure: State) -> Counter:
    """The counter that :func:`counter_tensors` was given.

    Args:
        tensors: what it gave.
        monoid: what to go on with.
        structure: a state that is made up like those held.

    Raises:
        KeyError: a tensor is missing.
        ValueError: there are more, or they do not fit each other or the monoid.
    """
    counts = tensors["counts"]
    if counts.dtype != torch.int64 or counts.dim() != 1 or (counts < 0).any():
        raise ValueError(f"'counts' must be int64 from 0 up (got {counts.dtype} {counts.shape})")
    width = range(len(leaves(structure)))
    names = [f"none.{number}" for number in width]
    none = unflatten(structure, [tensors[name] for name in names])
    _check_shapes(none, structure, "'none'")
    expected = {"counts", *names}
    counter = Counter(monoid, counts.device)
    kept = []
    for level in range(int(counts.max()).bit_length() if counts.numel() else 0):
        sets = ((counts >> level) & 1 == 1).nonzero().flatten()
        if not sets.numel():
            continue
        names = [f"levels.{level}.{number}" for number in width]
        expected |= {f"levels.{level}.sets", *names}
        if not torch.equal(tensors[f"levels.{level}.sets"], sets):
            raise ValueError(f"the sets of level {level} are not those that counts tell of")
        states = unflatten(structure, [tensors[name] for name in names])
        _check_shapes(states, none, f"states of level {level}")
        for one, other in zip(leaves(states), leaves(none), strict=True):
            if len(one) != len(sets) or one.dtype != other.dtype:
                raise ValueError(
                    f"level {level} must have {len(sets)} states of {other.dtype}, not {len(one)} "
                    f"of {one.dtype}"
                )
        kept.append(Kept(level, sets, states))
    if set(tensors) - expected:
        raise ValueError(f"it has more: {', '.join(sorted(set(tensors) - expected))}")
    counter.keep(kept, counts.clone(), map_state(Tensor.clone, none), constant=True)
    return counter


def _check_shapes(states: State, like: State, what: str) -> None:
    for one, other in zip(leaves(states), leaves(like), strict=True):
        if one.dim() != other.dim() or one.shape[1:] != other.shape[1:]:
            raise ValueError(
                f"{what} are {tuple(one.shape[1:])} each, not {tuple(other.shape[1:])}"
            )
