"""The fold into a buffer of nodes: one combine after another, nothing kept but their results."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lcm_graph.kernels.tree import Tree
from lcm_graph.monoids import Monoid, State
from lcm_graph.monoids.state import leaves, map_state, take
from lcm_graph.reduce.random_state import RandomStates

CHUNK_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 24}
"""Numbers of a state that one combine handles at once: on CPU its intermediates stay in cache."""


class Step(NamedTuple):
    """Part of a level, small enough for the cache: pairs ``start`` to ``end - 1`` of a tree."""

    level: int
    start: int
    end: int


def fold_nodes(
    monoid: Monoid, states: State, tree: Tree, random: RandomStates | None = None
) -> State:
    """The nodes of the tree (see :class:`Tree`), without a graph; ``states`` stay as they are."""
    singles = tree.singles.numel()
    nodes = map_state(lambda t: t.new_empty(tree.num_nodes, *t.shape[1:]), states)
    with torch.no_grad():
        map_state(lambda n, t: n[:singles].copy_(t.index_select(0, tree.singles)), nodes, states)
        for step in steps(tree, states):
            if random is not None:
                random.record()
            a, b = operands(states, nodes, tree, step)
            put(nodes, results(tree, step), cast_like(monoid(a, b), a, monoid))
    return nodes


def operands(states: State, nodes: State, tree: Tree, step: Step) -> tuple[State, State]:
    """What a step combines."""
    values = nodes if step.level else states
    where = slice(step.start, step.end)
    return take(values, tree.left[where]), take(values, tree.right[where])


def results(tree: Tree, step: Step) -> slice:
    """The nodes that a step makes."""
    singles = tree.singles.numel()
    return slice(singles + step.start, singles + step.end)


def put(nodes: State, rows: slice, values: State) -> None:
    """Write the nodes ``rows``."""
    map_state(lambda n, v: n[rows].copy_(v), nodes, values)


def steps(tree: Tree, states: State) -> list[Step]:
    """The levels of a tree cut into steps that suit states like these."""
    rows = rows_at_once(states)
    return [
        Step(level, at, min(at + rows, tree.level_ptr[level + 1]))
        for level, start in enumerate(tree.level_ptr[:-1])
        for at in range(start, tree.level_ptr[level + 1], rows)
    ]


def rows_at_once(states: State) -> int:
    """How many elements like these one combine handles."""
    tensors = leaves(states)
    width = sum(math.prod(t.shape[1:]) for t in tensors) or 1
    return max(256, CHUNK_ELEMENTS.get(tensors[0].device.type, 1 << 24) // width)


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
