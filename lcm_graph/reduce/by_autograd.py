"""The fold by operations that autograd, ``torch.func`` and ``torch.compile`` see through."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from lcm_graph.monoids import State
from lcm_graph.monoids.state import map_state, take
from lcm_graph.reduce.plan import FoldPlan
from lcm_graph.reduce.steps import cast_like

Combine: TypeAlias = Callable[[State, State], State]


def fold_by_autograd(combine: Combine, states: State, plan: FoldPlan) -> State:
    """Fold every occupied set, overwriting nothing; returns their states in order of the sets."""
    levels, singletons, order = plan.compact_levels
    if plan.source is not None:
        states = take(states, plan.source)
    at_hand = states
    finished = [take(states, singletons)]
    for level in levels:
        left = take(at_hand, level.left)
        combined = cast_like(combine(left, take(at_hand, level.right)), left, combine)
        both = map_state(_cat, at_hand, combined)
        at_hand = take(both, level.keep)
        finished.append(take(combined, level.done))
    if not levels and torch.is_grad_enabled():
        # Every parameter has a part in the result, if one of 0: distributed training waits for it.
        none = take(states, singletons[:0])
        finished.append(cast_like(combine(none, none), none, combine))
    return take(map_state(_cat, *finished), order)


def _cat(*parts: Tensor) -> Tensor:
    return torch.cat(parts)
