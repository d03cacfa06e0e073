"""Which subtrees of the canonical tree a kernel folds, and where they go: planned on the device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

BINS = (1, 3, 6)
"""Levels of the trees that are launched; a set is folded by the first that holds it.

Sets of a bin are ordered by size and share programs, several to one. What a set does not fill of
its tree is not padded in memory: an absent element costs an instruction that loads nothing.
"""

LEAVES = 1 << BINS[-1]
"""Elements that one task folds: a larger set takes several tasks, and a stage more."""


class Launch(NamedTuple):
    """Tasks that one launch folds, each along a tree of ``levels`` levels."""

    levels: int
    whole: bool  # whether tasks are whole sets, and their results final
    first: Tensor  # int64 [m], the place of a task's first element
    size: Tensor  # int32 [m], its elements: at most 2 ** levels
    owner: Tensor  # int64 [m], its set
    target: Tensor  # int64 [m], the row it writes: its set if whole, else a partial result


class Stage(NamedTuple):
    """Launches that may run side by side, on the partial results of the stage before."""

    launches: tuple[Launch, ...]
    partials: int  # rows that the next stage reads; 0 in the last one


class Segments(NamedTuple):
    """A ragged batch of sets with all that launching needs; make it once with :func:`plan`."""

    ptr: Tensor  # int64 [S + 1]
    permutation: Tensor | None  # int64 [n], the row at each place; rows may repeat
    stages: tuple[Stage, ...]

    @property
    def num_sets(self) -> int:
        return self.ptr.numel() - 1


def plan(ptr: Tensor, permutation: Tensor | None = None, *, bound: int | None = None) -> Segments:
    """Plan folds of sets laid end to end; at most one host synchronisation.

    A set of more than 64 elements is cut into subtrees of 64 elements, counted from its start, so
    that its tree, and its bits, do not depend on the sets beside it. The partial results of a set
    lie end to end, and the next stage takes them for its elements.

    Args:
        ptr: int64 ``[S + 1]``: set s holds places ptr[s] to ptr[s + 1] - 1.
        permutation: int64 ``[n]``, the row of each place (default: place p is row p). It sorts
            rows by set, or gathers them: rows may repeat.
        bound: no set has more elements (default: the length of ``permutation``; without one, the
            last entry of ``ptr``, which costs another synchronisation).
    """
    if bound is None:
        bound = int(ptr[-1]) if permutation is None else permutation.numel()
    sizes = ptr.diff()
    counts = _count(sizes, bound)
    stages = []
    sets = torch.arange(sizes.numel(), device=ptr.device)
    starts = ptr[:-1]
    for *in_bin, partials in counts:
        order = sizes.clamp_max(LEAVES + 1).argsort(stable=True)
        launches = []
        *by_bin, big = order.split([*in_bin, sizes.numel() - sum(in_bin)])
        for levels, chosen in zip(BINS, by_bin, strict=True):
            if chosen.numel():
                owner = sets[chosen]
                size = sizes[chosen].int()
                launches.append(Launch(levels, True, starts[chosen], size, owner, owner))
        if big.numel():
            sets, sizes, starts = sets[big], sizes[big], starts[big]
            parts = _parts(sizes)
            end = parts.cumsum(0)
            of = torch.arange(big.numel(), device=ptr.device).repeat_interleave(
                parts, output_size=partials
            )
            target = torch.arange(partials, device=ptr.device)
            skipped = (target - (end - parts)[of]) * LEAVES
            count = (sizes[of] - skipped).clamp_max(LEAVES).int()
            launches.append(Launch(BINS[-1], False, starts[of] + skipped, count, sets[of], target))
            sizes, starts = parts, end - parts
        stages.append(Stage(tuple(launches), partials))
        if not partials:
            break
    return Segments(ptr, permutation, tuple(stages))


def transpose(segments: Segments, num_rows: int) -> Segments:
    """For each row, the sets that hold it: what gradients are summed over, in a fixed order.

    Folding columns that have a row a set over the result gives one of ``num_rows`` rows. A set
    that holds a row twice is counted twice.
    """
    sizes = segments.ptr.diff()
    places = int(segments.ptr[-1]) if segments.permutation is None else segments.permutation.numel()
    of_place = torch.arange(sizes.numel(), device=sizes.device).repeat_interleave(
        sizes, output_size=places
    )
    if segments.permutation is None:
        rows = torch.arange(places, device=sizes.device)
    else:
        rows, by_row = segments.permutation.sort(stable=True)
        of_place = of_place[by_row]
    ptr = torch._convert_indices_from_coo_to_csr(rows, num_rows)
    return plan(ptr, of_place)


def _bin(sizes: Tensor) -> Tensor:
    """The bin of sets of ``sizes``: int8, ``len(BINS)`` for sets of several tasks."""
    largest = [1 << levels for levels in BINS]
    return torch.stack([sizes > size for size in largest]).sum(0, dtype=torch.int8)


def _parts(sizes: Tensor) -> Tensor:
    return (sizes + LEAVES - 1) // LEAVES


def _count(sizes: Tensor, bound: int) -> list[list[int]]:
    """For each stage, how many sets end in each bin, and how many partial results it writes."""
    rows = []
    live = torch.ones_like(sizes, dtype=torch.bool)
    while True:
        number = _bin(sizes)
        row = [((number == b) & live).sum() for b in range(len(BINS))]
        live = live & (number == len(BINS))
        sizes = _parts(sizes)
        rows.append(torch.stack([*row, torch.where(live, sizes, 0).sum()]))
        if bound <= LEAVES:
            return torch.stack(rows).tolist()
        bound = -(-bound // LEAVES)
