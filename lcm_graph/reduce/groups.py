"""Sets of one size beside each other: dense, without padding."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lcm_graph.reduce.plan import FoldPlan


class Groups(NamedTuple):
    """The sets that have elements, by size."""

    shapes: list[tuple[int, int]]  # sets and elements of each, smallest sets first
    sets: Tensor  # int64, in this order
    rows: Tensor  # int64 [n], their elements, set by set

    @property
    def lengths(self) -> list[int]:
        """Elements of all sets of one size."""
        return [count * size for count, size in self.shapes]

    def split(self, x: Tensor) -> list[Tensor]:
        """``[*, n, c]``, ordered as ``rows``, to ``[*, sets, elements, c]`` for each size."""
        parts = x.split(self.lengths, dim=-2)
        return [part.unflatten(-2, shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def split_sets(self, x: Tensor) -> list[Tensor]:
        """``[*, sets, m, c]``, ordered as ``sets``, to those of each size."""
        return list(x.split([count for count, _ in self.shapes], dim=-3))


def groups_of(plan: FoldPlan) -> Groups:
    """Group the sets of a plan; one synchronisation with the device."""
    order = plan.sizes.argsort(stable=True)
    distinct, counts = plan.sizes[order].unique_consecutive(return_counts=True)
    found = list(zip(counts.tolist(), distinct.tolist(), strict=True))
    shapes = [(count, size) for count, size in found if size]
    sets = order[len(order) - sum(count for count, _ in shapes) :]
    starts = plan.ptr[sets].split([count for count, _ in shapes])
    rows = [
        (start.unsqueeze(1) + torch.arange(size, device=order.device)).flatten()
        for start, (_, size) in zip(starts, shapes, strict=True)
    ]
    places = torch.cat(rows) if rows else plan.ptr[:0]
    return Groups(shapes, sets, places if plan.rows is None else plan.rows[places])
