"""Passes over the elements of sets, a chunk of places at a time so that it stays in cache.

A *place* is a position among the elements laid end to end, bag after bag; a *table* holds a row for
each set.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from lcm_graph.kernels.segment.cpu_bags import LARGE, Bags, sum_bags, wide
from lcm_graph.kernels.segment.formula import Sets, sets_of_places

CHUNK_NUMBERS = 2**20
"""Numbers of a chunk: 4 MiB in float32, of which two or three are in use at a time.

Smaller ones are no quicker, and threads wait for each other more often where cores are shared.
"""


class Chunk:
    """Some consecutive places, and buffers for them that are used again by the next chunk.

    Args:
        order: what is at the places.
        capacity: the most places of a chunk.
        outs: tensors ``[n, channels]`` whose places stand in for the first buffers.
    """

    def __init__(self, order: Order, capacity: int, outs: tuple[Tensor, ...] = ()) -> None:
        self.order = order
        self.capacity = capacity
        self.outs = outs
        self.start = self.stop = 0
        self._buffers: dict[tuple[int, torch.dtype], Tensor] = {}

    def buffer(self, slot: int, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Room ``[places, channels of like]``; each slot and each dtype has its own."""
        key = slot, dtype or like.dtype
        if slot < len(self.outs) and self.outs[slot].dtype == key[1]:
            return self.outs[slot][self.start : self.stop]
        if key not in self._buffers:
            self._buffers[key] = like.new_empty(self.capacity, like.size(1), dtype=key[1])
        return self._buffers[key][: self.stop - self.start]

    def elements(self, x: Tensor, slot: int) -> Tensor:
        """The row of ``x`` at each place, in ``slot`` unless it can be looked at where it is."""
        rows = self.order.rows
        if rows is None:
            return x[self.start : self.stop]
        rows = rows[self.start : self.stop]
        return torch.index_select(x, 0, rows, out=self.buffer(slot, x))

    def widened(self, x: Tensor) -> Tensor:
        """The row of ``x`` at each place in float32 at least, in slot 0."""
        return self.buffer(0, x, wide(x.dtype)).copy_(self.elements(x, 1))

    def of_set(self, table: Tensor, slot: int) -> Tensor:
        """The row of ``table`` for the set of each place, in ``slot``."""
        sets = self.order.sets[self.start : self.stop]
        return torch.index_select(table, 0, sets, out=self.buffer(slot, table))


Term = Callable[[Chunk], tuple[Tensor, ...]]
"""Numbers ``[places, channels]`` for a chunk, in slots 0, 1, … of its buffers."""


class Order(NamedTuple):
    """Elements in some order."""

    rows: Tensor | None  # int64 [n], the row of the state at each place; None if it is the place
    sets: Tensor  # int64 [n], the set of each place
    bags: Bags | None  # what :meth:`sums` adds up

    def sums(self, term: Term, channels: int) -> tuple[Tensor, ...]:
        """Sum of each of the numbers that ``term`` gives for a chunk, over the bags."""
        bags = self.bags
        assert bags is not None
        places = max(CHUNK_NUMBERS // channels, 1)
        pieces, begin = bags.cuts(places)
        parts: list[tuple[Tensor, ...]] = []
        longest = max(stop - start for start, stop in pairwise(begin))
        chunk = Chunk(self, longest)
        inside = torch.arange(chunk.capacity)
        for k in range(len(pieces) - 1):
            chunk.start, chunk.stop = begin[k], begin[k + 1]
            ptr = bags.ptr[pieces[k] : pieces[k + 1] + 1] - chunk.start
            rows = inside[: chunk.stop - chunk.start]
            parts.append(tuple(sum_bags(part, rows, ptr) for part in term(chunk)))
        return tuple(bags.whole(torch.cat(part), sum_bags) for part in zip(*parts, strict=True))

    def write(self, term: Term, outs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Write what ``term`` gives for a chunk to the same places of ``outs [n, channels]``."""
        n = self.sets.numel()
        places = max(CHUNK_NUMBERS // outs[0].size(1), 1)
        chunk = Chunk(self, places, outs)
        for start in range(0, n, places):
            chunk.start, chunk.stop = start, min(start + places, n)
            for out, part in zip(outs, term(chunk), strict=True):
                if part.dtype != out.dtype:  # else it is there already
                    out[chunk.start : chunk.stop] = part
        return outs


class Batch:
    """The sets of one call, in the orders in which the passes over them go."""

    def __init__(self, sets: Sets, channels: int) -> None:
        self.sets = sets
        self.large = max(1, min(LARGE, CHUNK_NUMBERS // max(channels, 1)))

    @property
    def bags(self) -> Bags:
        """The sets, for operators that need no buffers."""
        return self._bags(LARGE)

    def _bags(self, large: int) -> Bags:
        key = f"bags/{large}"
        bags: Bags | None = self.sets.derived.get(key)
        if bags is None:
            bags = Bags(self.sets.ptr, self.sets.num_elements, large)
            self.sets.derived[key] = bags
        return bags

    @cached_property
    def sizes(self) -> Tensor:
        """Elements of each set, at least 1: int64 ``[S, 1]``."""
        return self.sets.ptr.diff().clamp_min_(1).unsqueeze(1)

    @cached_property
    def set_of_place(self) -> Tensor:
        if self.sets.rows is None and self.sets.index is not None:
            return self.sets.index
        return sets_of_places(self.sets)

    @cached_property
    def by_set(self) -> Order:
        """Set after set."""
        return Order(self.sets.rows, self.set_of_place, self._bags(self.large))

    def by_row(self, num_rows: int) -> Order:
        """Row after row of the state; where rows repeat, the places of each make a bag."""
        rows, index = self.sets.rows, self.sets.index
        if rows is None:
            return Order(None, self.set_of_place, None)
        if index is not None:
            return Order(None, index, None)
        # A gathered plan's edges are sorted by source once, not at every layer and step.
        key = f"by_row/{num_rows}/{self.large}"
        order: Order | None = self.sets.derived.get(key)
        if order is None:
            row_of_place, places = rows.sort(stable=True)
            ptr = torch._convert_indices_from_coo_to_csr(row_of_place, num_rows)
            set_of_place = self.set_of_place.index_select(0, places)
            order = Order(row_of_place, set_of_place, Bags(ptr, rows.numel(), self.large))
            self.sets.derived[key] = order
        return order

    def gradients(self, term: Term, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What ``term`` gives for each element, added up where a row of ``inputs`` repeats."""
        order = self.by_row(inputs[0].size(0))
        if order.bags is None:
            return order.write(term, tuple(torch.empty_like(x) for x in inputs))
        sums = order.sums(term, inputs[0].size(1))
        return tuple(out.to(x.dtype) for out, x in zip(sums, inputs, strict=True))
