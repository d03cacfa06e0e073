"""Folding along the canonical tree: which way to take."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad

from lcm_graph.monoids import Monoid, State
from lcm_graph.monoids.state import leaves
from lcm_graph.reduce.by_autograd import fold_by_autograd
from lcm_graph.reduce.plan import FoldPlan
from lcm_graph.reduce.recompute import fold_recomputed, gradient_tensors
from lcm_graph.reduce.steps import fold_in_place

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
    if not torch.is_grad_enabled() and not _is_transformed():
        return fold_in_place(monoid, states, plan)
    if recompute is None:
        recompute = sum(t.numel() for t in tensors) > RECOMPUTE_ABOVE
    # If nothing known needs a gradient, something that the combine reaches otherwise still may.
    known = any(t.requires_grad for t in inputs)
    if recompute and known and monoid.recomputable and not _is_transformed():
        return fold_recomputed(monoid, states, plan)
    return fold_by_autograd(monoid, states, plan)


def _is_transformed() -> bool:
    """Whether ``torch.func``, forward mode or ``torch.compile`` looks into the operations."""
    return (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )
