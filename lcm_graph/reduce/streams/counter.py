"""A binary counter of states for each set: the whole subtrees of its first elements."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lcm_graph.monoids import Monoid, State
from lcm_graph.monoids.state import map_state, take
from lcm_graph.reduce.plan import FoldPlan
from lcm_graph.reduce.segment import segment_reduce
from lcm_graph.reduce.steps import cast_like
from lcm_graph.reduce.streams.blocks import whole_blocks
from lcm_graph.reduce.streams.slots import Slots


class Subtrees(NamedTuple):
    """States of subtrees of the canonical tree."""

    states: State  # b of them
    sets: Tensor  # int64 [b]
    begin: Tensor  # int64 [b], the place in its set of the first element of each
    level: Tensor  # int64 [b]: each is of 2 ** level elements


class Kept(NamedTuple):
    """States to keep at a level."""

    level: int
    sets: Tensor  # int64 [b], distinct
    states: State  # b of them


class Neighbours(NamedTuple):
    """Subtrees of one size."""

    sets: Tensor  # int64 [b]
    where: Tensor  # int64 [b], which of the subtrees of that size in its set each is
    states: State  # b of them


def fold_subtrees(monoid: Monoid, states: State, plan: FoldPlan, start: Tensor) -> Subtrees:
    """Fold stretches of sets to the fewest whole subtrees.

    Args:
        monoid: what to combine with.
        states: the elements.
        plan: the stretch of each set that they are.
        start: int64 ``[plan.num_sets]``, how many elements of each set come before.
    """
    sets = plan.sizes.nonzero().flatten()
    begin = start[sets]
    owner, begin, level = whole_blocks(begin, begin + plan.sizes[sets])
    ptr = torch.cat([level.new_zeros(1), (1 << level).cumsum(0)])
    blocks = FoldPlan(ptr, plan.num_elements, plan.permutation)
    blocks = blocks._gathering(plan.source, plan.num_states)
    return Subtrees(segment_reduce(monoid, states, plan=blocks), sets[owner], begin, level)


class Counter:
    """For each set a state for each binary digit 1 of the number of its elements.

    Adding elements carries, as adding to a binary number does. Nothing is changed by what fails.
    With ``constant``, what was held before forgets how it was computed.

    Args:
        monoid: what to combine with.
        device: of the index tensors.
    """

    def __init__(self, monoid: Monoid, device: torch.device) -> None:
        self.monoid = monoid.folds_as
        self.counts = torch.empty(0, dtype=torch.int64, device=device)  # elements of each set
        self.levels: list[Slots] = []
        self.none: State = None  # a state of no elements, like those held; None before the first

    @property
    def num_sets(self) -> int:
        return self.counts.numel()

    def counts_of(self, num_sets: int) -> Tensor:
        """A copy of the numbers of elements, of ``num_sets`` sets at least."""
        more = max(0, num_sets - self.num_sets)
        return torch.cat([self.counts, self.counts.new_zeros(more)])

    def holding(self, level: int) -> Tensor:
        """The sets that have a state at ``level``."""
        return _digit(self.counts, level).nonzero().flatten()

    def insert(self, subtrees: Subtrees, counts: Tensor, *, constant: bool) -> None:
        """Take in the subtrees that come next, after which there are ``counts`` elements."""
        before = self.counts_of(counts.numel())
        none = self.none_like(subtrees.states)
        by_level = subtrees.level.argsort(stable=True)
        ends = torch.bincount(subtrees.level, minlength=1).cumsum(0).tolist()
        up = Neighbours(subtrees.sets[:0], subtrees.begin[:0], take(subtrees.states, by_level[:0]))
        kept = []
        number, at = 0, 0
        while number < len(ends) or up.sets.numel():
            end = ends[number] if number < len(ends) else at
            rows, at = by_level[at:end], end
            here = Neighbours(
                torch.cat([up.sets, subtrees.sets[rows]]),
                torch.cat([up.where, subtrees.begin[rows] >> number]),
                _cat(up.states, take(subtrees.states, rows)),
            )
            rest, up = self._carry(number, here, before, constant)
            kept.append(rest)
            number += 1
        self.keep(kept, counts, none, constant=constant)

    def add(self, other: Counter, *, constant: bool) -> None:
        """Take in another's elements after one's own, as binary numbers are added.

        The canonical tree of both, if no level has more than a state of each.
        """
        mine, theirs = self.counts_of(other.num_sets), other.counts_of(self.num_sets)
        none = self.none_like(other.none)
        kept = []
        carried: list[tuple[Tensor, State]] = []
        for level in range(int((mine + theirs).max()).bit_length() if mine.numel() else 0):
            parts = []
            for counter, counts in ((self, mine), (other, theirs)):
                holding = _digit(counts, level).nonzero().flatten()
                if holding.numel():
                    held = counter._held(level, holding, constant and counter is self)
                    parts.append((holding, _cast(held, none)))
            parts += carried
            if parts:
                rest, carried = self._add_digit(level, parts)
                kept.append(rest)
        self.keep(kept, mine + theirs, none, constant=constant)

    def none_like(self, states: State) -> State:
        """What is held of no elements, or would be, if these are the first states."""
        if self.none is not None:
            return self.none
        with torch.inference_mode(False), torch.no_grad():
            return map_state(lambda t: t.new_zeros(0, *t.shape[1:]), states)

    def fold(self) -> State:
        """The states of the sets, identities where empty."""
        occupied = self.counts.nonzero().flatten()
        place = torch.empty_like(self.counts)
        place[occupied] = torch.arange(occupied.numel(), device=occupied.device)
        folded = map_state(lambda s: s.new_zeros(occupied.numel(), *s.shape[1:]), self.none)
        begun = torch.zeros_like(self.counts, dtype=torch.bool)
        for level, slots in enumerate(self.levels):  # from the last elements to the first
            sets = self.holding(level)
            if not sets.numel():
                continue
            states = slots.get(sets)
            more = begun[sets].nonzero().flatten()
            if more.numel():
                both = self._combine(take(states, more), take(folded, place[sets[more]]))
                states = map_state(lambda s, b, at=more: s.index_copy(0, at, b), states, both)
            folded = map_state(lambda f, s, at=place[sets]: f.index_copy(0, at, s), folded, states)
            begun[sets] = True
        if occupied.numel() == self.num_sets:
            return folded
        return segment_reduce(self.monoid, folded, occupied, dim_size=self.num_sets)

    def keep(self, kept: list[Kept], counts: Tensor, none: State, *, constant: bool) -> None:
        """Write states, all like ``none``, now that there are ``counts`` elements."""
        levels = list(self.levels)
        writes = []
        for level, sets, states in kept:
            while len(levels) <= level:
                levels.append(Slots(counts.device))
            if sets.numel():
                states = _cast(states, none)
                write = levels[level].prepare(sets, states, counts.numel(), constant=constant)
                writes.append(write)
        # From here on nothing fails.
        self.levels, self.counts, self.none = levels, counts, none
        if constant:
            self.detach()
        for write in writes:
            write()

    def detach(self) -> None:
        """Forget how the states were computed."""
        for slots in self.levels:
            slots.detach()

    def copy(self) -> Counter:
        """Another that holds the same."""
        other = Counter(self.monoid, self.counts.device)
        other.counts, other.none = self.counts.clone(), self.none
        other.levels = [slots.copy() for slots in self.levels]
        return other

    def _held(self, level: int, sets: Tensor, constant: bool) -> State:
        states = self.levels[level].get(sets)
        return map_state(Tensor.detach, states) if constant else states

    def _carry(
        self, level: int, here: Neighbours, before: Tensor, constant: bool
    ) -> tuple[Kept, Neighbours]:
        """Combine neighbours of one level: what has none is kept, the others go up."""
        sets, where, states = here
        touched = sets.unique()
        waiting = touched[_digit(before[touched], level)]
        if waiting.numel():
            sets = torch.cat([waiting, sets])
            where = torch.cat([(before[waiting] >> level) - 1, where])
            states = _cat(_cast(self._held(level, waiting, constant), states), states)
        order = where.argsort(stable=True)
        order = order[sets[order].argsort(stable=True)]
        is_right = _digit(where[order], 0)  # what it goes with stands before it
        right = is_right.nonzero().flatten()
        alone = ~is_right
        alone[right - 1] = False
        left, right, rest = order[right - 1], order[right], order[alone]
        both = self._combine(take(states, left), take(states, right))
        return (
            Kept(level, sets[rest], take(states, rest)),
            Neighbours(sets[left], where[left] >> 1, both),
        )

    def _add_digit(
        self, level: int, parts: list[tuple[Tensor, State]]
    ) -> tuple[Kept, list[tuple[Tensor, State]]]:
        """Of up to three states of a set the last two are combined and go up; one alone stays."""
        sets = torch.cat([some for some, _ in parts])
        states = _cat(*(state for _, state in parts))
        order = sets.argsort(stable=True)  # own before theirs before what was carried
        ordered = sets[order]
        same = ordered[1:] == ordered[:-1]
        no = same.new_zeros(1)
        right = (torch.cat([no, same]) & ~torch.cat([same, no])).nonzero().flatten()
        stays = torch.ones_like(ordered, dtype=torch.bool)
        stays[right] = stays[right - 1] = False
        rest = order[stays]
        kept = Kept(level, sets[rest], take(states, rest))
        if not right.numel():
            return kept, []
        both = self._combine(take(states, order[right - 1]), take(states, order[right]))
        return kept, [(ordered[right], both)]

    def _combine(self, left: State, right: State) -> State:
        return cast_like(self.monoid.combine(left, right), left, self.monoid)


def _digit(numbers: Tensor, place: int) -> Tensor:
    """Whether the binary digit at ``place`` is 1."""
    return (numbers >> place) & 1 == 1


def _cast(states: State, like: State) -> State:
    """In the dtypes of others."""
    return map_state(lambda s, other: s.to(other.dtype), states, like)


def _cat(*states: State) -> State:
    return map_state(lambda *tensors: torch.cat(tensors), *states)
