"""The fold in place: one combine after another on a working copy of the states."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lcm_graph.monoids import Monoid, State
from lcm_graph.monoids.state import leaves, map_state, take
from lcm_graph.reduce.plan import FoldPlan
from lcm_graph.reduce.random_state import RandomStates

CHUNK_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 24}
"""Numbers of a state that one combine handles at once: on CPU its intermediates stay in cache."""


class Step(NamedTuple):
    """Part of a level, small enough for the cache."""

    level: int
    left: Tensor  # int64 [m]
    right: Tensor  # int64 [m]


class Tape:
    """What a fold leaves behind for its backward pass.

    A right operand keeps its value in the working copy; a left operand is overwritten there, so the
    tape holds it, except at level 0, where the input has it.
    """

    def __init__(self, device: torch.device) -> None:
        self.lefts: list[Tensor] = []  # the tensors of one step after another
        self.work: list[Tensor] = []
        self.random = RandomStates(device)

    def record(self, step: Step, left: State) -> None:
        """Note what ``step`` is about to overwrite."""
        self.random.record()
        if step.level > 0:
            self.lefts.extend(leaves(left))


def fold_in_place(monoid: Monoid, states: State, plan: FoldPlan, tape: Tape | None = None) -> State:
    """Fold without a graph; ``states`` are left as they are.

    Returns:
        The states of the occupied sets, in order.
    """
    work = map_state(Tensor.clone, states)
    with torch.no_grad():
        for step in steps(plan, states):
            a, b = take(work, step.left), take(work, step.right)
            if tape is not None:
                tape.record(step, a)
            put(work, step.left, cast_like(monoid(a, b), a, monoid))
    if tape is not None:
        tape.work = leaves(work)
    return take(work, plan.roots)


def steps(plan: FoldPlan, states: State) -> list[Step]:
    """The levels of a plan cut into steps that suit states like these."""
    rows = rows_at_once(states)
    return [
        Step(number, left, right)
        for number, level in enumerate(plan.levels)
        for left, right in zip(level.left.split(rows), level.right.split(rows), strict=True)
    ]


def rows_at_once(states: State) -> int:
    """How many elements like these one combine handles."""
    tensors = leaves(states)
    width = sum(math.prod(t.shape[1:]) for t in tensors) or 1
    return max(256, CHUNK_ELEMENTS.get(tensors[0].device.type, 1 << 24) // width)


def put(state: State, rows: Tensor, values: State) -> None:
    """Overwrite the elements ``rows`` of ``state``."""
    map_state(lambda s, v: s.index_copy_(0, rows, v), state, values)


def cast_like(combined: State, operand: State, combine: object) -> State:
    """What ``combine`` gave, in its operands' dtype, also where autocast computed in another.

    Raises:
        ValueError: it is not of the operands' structure and shape.
    """

    def cast(result: Tensor, before: Tensor) -> Tensor:
        if result.shape != before.shape:
            raise ValueError(
                f"{type(combine).__name__}.combine must give states of the shape of its "
                f"operands, {tuple(before.shape)} (got {tuple(result.shape)})"
            )
        return result.to(before.dtype)

    return map_state(cast, combined, operand)
