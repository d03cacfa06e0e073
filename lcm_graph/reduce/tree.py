"""Folding along the canonical tree: which way to take."""

from __future__ import annotations

import torch

from lcm_graph.kernels.gradient_mode import is_transformed
from lcm_graph.kernels.registry import tree_kernel
from lcm_graph.monoids import Monoid, State
from lcm_graph.monoids.state import leaves, take
from lcm_graph.reduce.by_autograd import fold_by_autograd
from lcm_graph.reduce.plan import FoldPlan
from lcm_graph.reduce.recompute import fold_recomputed, gradient_tensors
from lcm_graph.reduce.steps import fold_nodes

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
    if not is_transformed():
        kernel = tree_kernel(monoid, tensors[0].device)
        folded = None if kernel is None else kernel(monoid, states, plan, recompute)
        if folded is not None:
            return folded
    inputs = [*tensors, *gradient_tensors(monoid).values()]
    if not torch.is_grad_enabled() and not is_looked_into():
        return take(fold_nodes(monoid, states, plan.tree), plan.tree.roots)
    if recompute is None:
        recompute = sum(t.numel() for t in tensors) > RECOMPUTE_ABOVE
    # If nothing known needs a gradient, something that the combine reaches otherwise still may.
    known = any(t.requires_grad for t in inputs)
    if recompute and known and monoid.recomputable and not is_looked_into():
        return fold_recomputed(monoid, states, plan)
    return fold_by_autograd(monoid, states, plan)


def is_looked_into() -> bool:
    """Whether ``torch.func``, forward mode or ``torch.compile`` looks into the operations."""
    return torch.compiler.is_compiling() or is_transformed()
