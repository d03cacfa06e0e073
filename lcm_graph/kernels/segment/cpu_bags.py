"""Sums and extrema of bags of rows on a CPU, from torch's own operators."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

LARGE = 2**16
"""Places of a bag that are reduced in one go, and fewer of many channels.

A larger bag is cut, so that threads share it and buffers stay small; where it is cut depends on its
size and its channels alone, and so does the rounding of its sum.
"""

NARROW = (torch.float16, torch.bfloat16)


def wide(dtype: torch.dtype) -> torch.dtype:
    """What numbers of ``dtype`` are summed in."""
    return torch.float32 if dtype in NARROW else dtype


class Bags:
    """Bags that lie end to end, the large ones cut to pieces."""

    def __init__(self, ptr: Tensor, num_places: int, large: int = LARGE) -> None:
        self.num_places = num_places
        self.ptr = ptr  # where pieces begin
        self.owned: Tensor | None = None  # which pieces a bag has; None if each is one
        if num_places > large and int((sizes := ptr.diff()).max()) > large:
            counts = sizes.add(large - 1).div(large, rounding_mode="floor").clamp_min_(1)
            self.owned = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
            starts = (ptr[:-1] - large * self.owned[:-1]).repeat_interleave(counts)
            starts += large * torch.arange(starts.numel())
            self.ptr = torch.cat([starts, ptr[-1:]])

    def sum(self, x: Tensor, rows: Tensor | None) -> Tensor:
        """Sum of the rows of ``x`` (float32, float64) at the places of each bag."""
        return self.whole(sum_bags(x, rows, self.ptr), sum_bags)

    def extremum(self, x: Tensor, rows: Tensor | None, which: str) -> Tensor:
        """``"amax"`` or ``"amin"`` of the rows of ``x`` at the places of each bag."""

        def reduce(x: Tensor, rows: Tensor | None, ptr: Tensor) -> Tensor:
            out = _multiply(x, rows, ptr, which)
            empty = (ptr.diff() == 0).nonzero().flatten()
            return out.index_fill_(0, empty, -torch.inf if which == "amax" else torch.inf)

        return self.whole(reduce(x, rows, self.ptr), reduce)

    def whole(
        self, pieces: Tensor, reduce: Callable[[Tensor, Tensor | None, Tensor], Tensor]
    ) -> Tensor:
        """Reduce the results of pieces to those of bags."""
        return pieces if self.owned is None else reduce(pieces, None, self.owned)

    def cuts(self, places: int) -> tuple[list[int], list[int]]:
        """Cut pieces into chunks of some ``places``: where each begins, in pieces and in places."""
        first = torch.searchsorted(
            self.ptr, torch.arange(places, max(places, self.num_places), places)
        )
        first = first[self.ptr[first] < self.num_places].unique_consecutive()
        begin = self.ptr[first].tolist()
        return [0, *first.tolist(), self.ptr.numel() - 1], [0, *begin, self.num_places]


def sum_bags(x: Tensor, rows: Tensor | None, ptr: Tensor) -> Tensor:
    """Sum of ``x[rows[ptr[s]:ptr[s + 1]]]`` for each bag ``s``; all rows in order if ``None``."""
    if x.dtype == torch.float64:  # for which embedding_bag has no quick path
        return _multiply(x, rows, ptr, "sum")
    rows = torch.arange(x.size(0)) if rows is None else rows
    return torch.embedding_bag(x, rows, ptr, False, 0, False, None, True)[0]


def _multiply(x: Tensor, rows: Tensor | None, ptr: Tensor, reduce: str) -> Tensor:
    """The product of a sparse matrix of ones and ``x`` with another reduction than the sum."""
    _speak_once()
    rows = torch.arange(x.size(0)) if rows is None else rows
    ones = x.new_ones(rows.numel())
    shape = (ptr.numel() - 1, x.size(0))
    matrix = torch.sparse_csr_tensor(ptr, rows, ones, shape, check_invariants=False)
    return torch.sparse.mm(matrix, x, reduce)


@cache
def _speak_once() -> None:
    """Let torch say that its sparse tensors are in beta, which it does once, where none hears."""
    ptr = torch.zeros(2, dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor(ptr, ptr[:0], torch.ones(0), (1, 1), check_invariants=False)
