"""Folding along the canonical tree: which way to take, and the two plain ways."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

from lcm_graph.monoids import Monoid, State
from lcm_graph.monoids.state import leaves, map_state, take
from lcm_graph.reduce.plan import FoldPlan
from lcm_graph.reduce.recompute import Combine, fold_recomputed, gradient_tensors
from lcm_graph.reduce.steps import cast_like, fold_in_place

RECOMPUTE_ABOVE = 1 << 20
"""Numbers in the states from which on a fold recomputes rather than saves, if left the choice."""


def fold_roots(
    monoid: Monoid, states: State, plan: FoldPlan, recompute: bool | None = None
) -> State:
    """Fold every occupied set; returns their states in order of the sets.

    Args:
        monoid: what to combine with.
        states: ``plan.num_elements`` elements.
        plan: the sets.
        recompute: see :func:`~lcm_graph.reduce.segment_reduce`.
    """
    tensors = leaves(states)
    inputs = [*tensors, *gradient_tensors(monoid).values()]
    if recompute is None:
        recompute = sum(t.numel() for t in tensors) > RECOMPUTE_ABOVE
    if _is_transformed() or (torch.is_grad_enabled() and not (recompute and monoid.recomputable)):
        return fold_by_autograd(monoid, states, plan)
    if torch.is_grad_enabled() and any(t.requires_grad for t in inputs):
        return fold_recomputed(monoid, states, plan)
    return fold_in_place(monoid, states, plan)


def fold_by_autograd(monoid: Combine, states: State, plan: FoldPlan) -> State:
    """Fold with operations that autograd, ``torch.func`` and ``torch.compile`` see through."""
    levels, singletons, order = plan.compact_levels
    at_hand = states
    finished = [take(states, singletons)]
    for level in levels:
        left = take(at_hand, level.left)
        combined = cast_like(monoid(left, take(at_hand, level.right)), left, monoid)
        both = map_state(_cat, at_hand, combined)
        at_hand = take(both, level.keep)
        finished.append(take(combined, level.done))
    return take(map_state(_cat, *finished), order)


def _cat(*parts: Tensor) -> Tensor:
    return torch.cat(parts)


def _is_transformed() -> bool:
    """Whether ``torch.func``, forward mode or ``torch.compile`` looks into the operations."""
    return (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )
