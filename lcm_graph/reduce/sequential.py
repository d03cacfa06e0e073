"""The obvious fold: one element after another. The reference that others are held to."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_graph.monoids import Monoid, State
from lcm_graph.monoids.state import leaves, map_state, num_elements, take
from lcm_graph.reduce.plan import make_plan


def sequential_reduce(
    monoid: Monoid,
    states: State,
    index: Tensor | None = None,
    ptr: Tensor | None = None,
    dim_size: int | None = None,
) -> State:
    """Fold each set from the left: ``((x₁ ⊕ x₂) ⊕ x₃) ⊕ …``. Never optimised.

    Arguments as :func:`~lcm_graph.reduce.segment_reduce`. For an associative monoid both agree up
    to rounding; for others the difference is the price of bracketing.
    """
    plan = make_plan(num_elements(states), index, ptr, dim_size, leaves(states)[0].device)
    folds = [take(states, plan.roots[:0])]
    for s in range(plan.num_sets):
        rows = (plan.index == s).nonzero().flatten()
        if len(rows) == 0:
            continue
        fold = take(states, rows[:1])
        for row in rows[1:]:
            fold = monoid.combine(fold, take(states, row.view(1)))
        folds.append(fold)
    occupied = map_state(lambda *parts: torch.cat(parts), *folds)
    if plan.occupied is None:
        return occupied
    return monoid.place(occupied, plan.occupied, plan.num_sets)
