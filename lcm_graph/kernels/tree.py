"""The canonical tree as a kernel reads it: nodes in a buffer, level after level."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Tree(NamedTuple):
    """Which rows a fold combines; see :class:`lcm_graph.reduce.FoldPlan` for the tree itself.

    A fold of elements ``x`` writes a buffer ``nodes`` of ``q + m`` rows: first the ``q`` elements
    that are not combined at level 0, copied from ``x``, then the results of the ``m`` combines, in
    order. Pair ``j`` reads rows ``left[j]`` and ``right[j]``, of ``x`` at level 0 and of ``nodes``
    above it, and writes row ``q + j`` of ``nodes``. Every row of ``nodes`` is read once by a later
    level, or it is a root. Within a level, pairs are ordered by set and by place in the set.
    """

    left: Tensor  # int64 [m]
    right: Tensor  # int64 [m]
    singles: Tensor  # int64 [q], rows of x
    roots: Tensor  # int64 [occupied sets], rows of nodes
    level_ptr: tuple[int, ...]  # level l holds pairs level_ptr[l] to level_ptr[l + 1] - 1
    sizes: Tensor  # int64 [sets], elements of each set; [0] if the trees are not canonical

    @property
    def num_nodes(self) -> int:
        """Rows of the buffer ``nodes``."""
        return self.singles.numel() + self.left.numel()
