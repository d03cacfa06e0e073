"""The obvious fold: one element after another. The reference that others are held to."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_graph.monoids import Monoid, State
from lcm_graph.monoids.state import map_state, num_elements, take
from lcm_graph.reduce.plan import make_plan


def sequential_reduce(
    monoid: Monoid,
    states: State,
    index: Tensor | None = None,
    ptr: Tensor | None = None,
    dim_size: int | None = None,
) -> State:
    """Fold each set from the left: ``((e ⊕ x₁) ⊕ x₂) ⊕ x₃ …``. Never optimised.

    Arguments as :func:`~lcm_graph.reduce.segment_reduce`. For an associative monoid both agree up to
    rounding; for others the difference is the price of bracketing.
    """
    first = states if isinstance(states, Tensor) else next(t for t in states if t is not None)
    while not isinstance(first, Tensor):
        first = first[0]
    plan = make_plan(num_elements(states), index, ptr, dim_size, first.device)
    folds = []
    for s in range(plan.num_sets):
        fold = monoid.identity(1, dtype=first.dtype, device=first.device)
        for row in (plan.index == s).nonzero().flatten():
            fold = monoid.combine(fold, take(states, row.view(1)))
        folds.append(fold)
    if not folds:
        return monoid.identity(0, dtype=first.dtype, device=first.device)
    return map_state(lambda *rows: torch.cat(rows), *folds)
