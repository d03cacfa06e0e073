"""The fold with every node of its trees to look at."""

from __future__ import annotations

from typing import NamedTuple

import torch

from lcm_graph.monoids import Monoid, State
from lcm_graph.monoids.state import map_state, take
from lcm_graph.reduce.plan import FoldPlan
from lcm_graph.reduce.steps import cast_like


class Pairs(NamedTuple):
    """What was combined: pair ``j`` made node ``start + j``."""

    left: State  # m elements
    right: State
    start: int


def fold_with_nodes(monoid: Monoid, states: State, plan: FoldPlan) -> tuple[State, Pairs]:
    """The nodes of the trees (see :class:`~lcm_graph.kernels.tree.Tree`) and their operands.

    With autograd's graph: all gradients flow. Memory several times the states'.
    """
    tree = plan.tree
    singles = tree.singles.numel()
    made = [take(states, tree.singles)]  # nodes, part after part
    lefts, rights = [], []
    for level, (low, high) in enumerate(zip(tree.level_ptr, tree.level_ptr[1:], strict=False)):
        values = _cat(made) if level else states
        made = [values] if level else made
        left, right = take(values, tree.left[low:high]), take(values, tree.right[low:high])
        made.append(cast_like(monoid.combine(left, right), left, monoid))
        lefts.append(left)
        rights.append(right)
    none = [take(states, tree.left[:0])]
    return _cat(made), Pairs(_cat(lefts or none), _cat(rights or none), singles)


def _cat(parts: list[State]) -> State:
    return map_state(lambda *tensors: torch.cat(tensors), *parts)
