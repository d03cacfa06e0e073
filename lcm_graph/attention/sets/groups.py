"""Sets of one size beside each other: dense, without padding."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lcm_graph.reduce import FoldPlan


class Group(NamedTuple):
    """All sets of one size."""

    sets: Tensor  # int64 [B]
    rows: Tensor  # int64 [B, m], the elements of each


def groups_of(plan: FoldPlan) -> list[Group]:
    """The sets that have elements, by size; one synchronisation with the device."""
    sizes = plan.sizes
    order = sizes.argsort(stable=True)
    distinct, counts = sizes[order].unique_consecutive(return_counts=True)
    groups = []
    for size, sets in zip(distinct.tolist(), order.split(counts.tolist()), strict=True):
        if not size:
            continue
        rows = plan.ptr[sets].unsqueeze(1) + torch.arange(size, device=sets.device)
        groups.append(Group(sets, rows if plan.rows is None else plan.rows[rows]))
    return groups
