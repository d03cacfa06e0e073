"""Where the nodes of trees that grow lie in one buffer."""

from __future__ import annotations

import torch
from torch import Tensor


class Layout:
    """A stretch of rows for each set: its leaves, the nodes above them, …, its root.

    A set with room for 2^K elements has 2^(K+1) - 1 rows. One that outgrows its stretch gets a
    longer one, and the old is free for another set.

    Args:
        num_sets: sets, without elements.
        device: of the index tensors.
    """

    def __init__(self, num_sets: int, device: torch.device) -> None:
        self.base = torch.zeros(num_sets, dtype=torch.int64, device=device)
        self.height = torch.full_like(self.base, -1)  # K; -1: no rows
        self.size = 0  # rows so far
        self._free: dict[int, list[int]] = {}  # height -> bases

    @property
    def num_sets(self) -> int:
        return self.base.numel()

    def extend(self, num_sets: int) -> None:
        """Have at least so many sets."""
        more = num_sets - self.num_sets
        if more <= 0:
            return
        self.base = torch.cat([self.base, self.base.new_zeros(more)])
        self.height = torch.cat([self.height, self.height.new_full((more,), -1)])

    def row(self, sets: Tensor, level: int | Tensor, place: Tensor) -> Tensor:
        """The row of node ``place`` of ``level`` of each of ``sets`` (int64 ``[m]``)."""
        leaves = 2 << self.height[sets]
        return self.base[sets] + leaves - (leaves >> level) + place

    def roots(self, sets: Tensor) -> Tensor:
        """The row of each set's root; the sets have rows."""
        return self.base[sets] + (2 << self.height[sets]) - 2

    def path(self, sets: Tensor, place: Tensor) -> Tensor:
        """The rows of leaf ``place`` of each of ``sets`` and of the nodes above, each once."""
        if not sets.numel():
            return sets
        height = self.height[sets].unsqueeze(1)
        level = torch.arange(int(height.max()) + 1, device=sets.device)
        rows = self.row(sets.unsqueeze(1), level, place.unsqueeze(1) >> level)[level <= height]
        return rows if len(sets) == 1 else rows.unique()

    def grow(self, sets: Tensor, height: Tensor) -> tuple[Tensor, Tensor]:
        """Give ``sets`` (int64, distinct) room for ``2 ** height`` elements each, more than now.

        Returns:
            The rows where their nodes were, and those where they belong now.
        """
        before, old_base, old_height = [], self.base[sets], self.height[sets]
        top = int(old_height.max()) if sets.numel() else -1
        where = []
        for level in range(top + 1):
            nodes = torch.where(old_height >= level, 1 << (old_height - level).clamp(min=0), 0)
            owner, place = _ragged(nodes)
            before.append(self.row(sets[owner], level, place))
            where.append((owner, level, place))
        self.base[sets], self.height[sets] = self._allocate(height), height
        for base, k in zip(old_base.tolist(), old_height.tolist(), strict=True):
            if k >= 0:
                self._free.setdefault(k, []).append(base)
        after = [self.row(sets[owner], level, place) for owner, level, place in where]
        none = sets[:0]
        return torch.cat([none, *before]), torch.cat([none, *after])

    def _allocate(self, height: Tensor) -> Tensor:
        """Where stretches for ``2 ** height`` elements begin."""
        base = torch.empty_like(height)
        wanted = height.tolist()
        if any(self._free.values()):
            reused = [(at, self._free[k].pop()) for at, k in enumerate(wanted) if self._free.get(k)]
        else:
            reused = []
        fresh = torch.ones_like(height, dtype=torch.bool)
        if reused:
            at, bases = zip(*reused, strict=True)
            fresh[list(at)] = False
            base[list(at)] = torch.tensor(bases, device=height.device)
        rows = (2 << height[fresh]) - 1
        ends = self.size + rows.cumsum(0)
        base[fresh] = ends - rows
        self.size = int(ends[-1]) if ends.numel() else self.size
        return base


def _ragged(counts: Tensor) -> tuple[Tensor, Tensor]:
    """``counts[i]`` times i, and 0, 1, … for each."""
    owner = torch.arange(counts.numel(), device=counts.device).repeat_interleave(counts)
    starts = (counts.cumsum(0) - counts)[owner]
    return owner, torch.arange(owner.numel(), device=counts.device) - starts
