"""``Accumulator``: a fold whose elements come chunk by chunk."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from lcm_graph.monoids import Monoid, State
from lcm_graph.monoids.state import leaves, map_state, take, unflatten
from lcm_graph.reduce.plan import FoldPlan, make_plan
from lcm_graph.reduce.segment import segment_reduce
from lcm_graph.reduce.steps import cast_like
from lcm_graph.reduce.streams.blocks import whole_blocks
from lcm_graph.reduce.streams.file import check_monoid_of, read_stream, write_stream
from lcm_graph.reduce.streams.slots import Slots

GRADIENTS = ("last", "all")


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


class Accumulator:
    """Folds sets whose elements come in chunks, in memory that grows by the logarithm.

    After n elements a set has a state for each binary digit 1 of n: of its first elements, as many
    as the highest power of two in n, of the next, and so on. Adding elements carries, as adding
    to a binary number does. These are the subtrees of the canonical tree (see :class:`FoldPlan`),
    so the answer is that of :func:`segment_reduce` for all of the elements at once, however they
    were cut into chunks: exactly where the same operations are done on the same numbers, also for
    operators that are not associative. Matrix products of other sizes may round otherwise, and a
    closed form sums in another order: then the two agree up to rounding.

    The monoid's parameters are those of the moment: states that were folded before a training step
    are not computed anew.

    Args:
        monoid: what to fold with.
        gradient: ``"last"``: the result is differentiable through the latest chunk, those before
            are constants. ``"all"``: through all chunks, whose graphs are kept; see
            :func:`fold_chunks` for gradients in bounded memory.

    Raises:
        TypeError: ``monoid`` is not a :class:`~lcm_graph.monoids.Monoid`.
        ValueError: ``gradient`` is none of these.

    Example:
        >>> counter = Accumulator(BinaryGRU(16))
        >>> for x, index in chunks:
        ...     counter.update(x, index)
        >>> counter.result()  # [sets, 16]
    """

    def __init__(self, monoid: Monoid, *, gradient: str = "last") -> None:
        if not isinstance(monoid, Monoid):
            raise TypeError(f"'monoid' must be a Monoid, e.g. Sum(64) (got {monoid!r})")
        if gradient not in GRADIENTS:
            raise ValueError(f"'gradient' must be one of {', '.join(GRADIENTS)} (got {gradient!r})")
        self.monoid = monoid
        self.gradient = gradient
        self.counts = torch.empty(0, dtype=torch.int64)
        """Elements so far of each set: int64 ``[sets]``."""
        self._like: Tensor | None = None  # [0, features]: an element's shape, dtype and device
        self._levels: list[Slots] = []

    # Figures -----------------------------------------------------------------------------------

    @property
    def num_sets(self) -> int:
        """One more than the largest set that was named."""
        return self.counts.numel()

    @property
    def num_elements(self) -> int:
        """Elements so far, of all sets."""
        return int(self.counts.sum())

    @property
    def num_states(self) -> int:
        """Rows of states that were ever needed at once: a measure of memory."""
        return sum(slots.used for slots in self._levels)

    # More elements -----------------------------------------------------------------------------

    def update(
        self,
        x: Tensor,
        index: Tensor | None = None,
        ptr: Tensor | None = None,
        dim_size: int | None = None,
    ) -> None:
        """Take in a chunk.

        Args:
            x: floating point ``[n, features]``, as ``monoid.lift`` takes them.
            index: integers ``[n]``, the set of each element, in any order; the elements of a set
                follow those that it has in the order in which they come. Without ``index`` and
                ``ptr`` they are of set 0.
            ptr: integers ``[S + 1]``, if the sets lie end to end.
            dim_size: number of sets, if more than are named; sets that other chunks named stay.

        Raises:
            ValueError: see :func:`segment_reduce`; or elements have other features, dtype or device
                than before. The accumulator is then as it was.
        """
        plan = make_plan(x.size(0) if x.dim() else 0, index, ptr, dim_size, x.device)
        self._check_like(x)
        if self.gradient == "last" or not torch.is_grad_enabled():
            self.detach()
        before = _counts(self, plan.num_sets, x.device)
        kept = self._insert(before, *self._fold_blocks(self.monoid.lift(x), plan, before))
        self._keep(kept, x, before + _padded(plan.sizes, before.numel()))

    def merge(self, other: Accumulator) -> None:
        """Take in the elements of another accumulator, set by set, after one's own.

        The sum of two binary numbers: of a monoid that is commutative and associative, the answer
        is that of all elements at once, up to rounding. Of another it is the same too, if the
        number of elements so far of each set is a multiple of a power of two that is not below
        the number of ``other``'s (so shards of 2^k elements merge exactly); else it is a
        fold of the same elements along another balanced tree.

        Args:
            other: of the same monoid; stays as it is.

        Raises:
            TypeError: ``other`` is no accumulator, or is of another kind of monoid.
            ValueError: ``other``'s elements have other features, dtype or device, or the monoid is
                not commutative and the numbers of elements are not as said above.
        """
        if not isinstance(other, Accumulator):
            raise TypeError(f"'other' must be an Accumulator (got {type(other).__name__})")
        if repr(other.monoid) != repr(self.monoid):
            raise TypeError(
                f"'other' must be of the same monoid, {self.monoid} (got {other.monoid})"
            )
        if other._like is None:
            return
        self._check_like(other._like)
        device = other._like.device
        mine = _counts(self, other.num_sets, device)
        theirs = _counts(other, self.num_sets, device)
        if not self.monoid.commutative:
            self._check_aligned(mine, theirs)
        if not torch.is_grad_enabled():
            self.detach()
        self._keep(self._add(other, mine, theirs), other._like, mine + theirs)

    # The answer --------------------------------------------------------------------------------

    def result(self) -> Tensor:
        """What the sets fold to: ``[num_sets, out_channels]``, as ``monoid.lower`` gives it.

        Raises:
            ValueError: there has been no chunk, so that an answer's dtype is not known.
        """
        return self.monoid.lower(self.state())

    def state(self) -> State:
        """The same, not lowered: states of ``num_sets`` elements, identities where empty.

        Raises:
            ValueError: there has been no chunk.
        """
        if self._like is None:
            raise ValueError("the accumulator has taken in no chunk: call update(x, index) first")
        occupied = self.counts.nonzero().flatten()
        place = torch.empty_like(self.counts)
        place[occupied] = torch.arange(occupied.numel(), device=occupied.device)
        folded = take(self._lifted_none(), occupied.new_empty(0))
        folded = map_state(lambda s: s.new_zeros(occupied.numel(), *s.shape[1:]), folded)
        begun = torch.zeros_like(self.counts, dtype=torch.bool)
        for level in range(len(self._levels)):  # from the last elements to the first
            sets = self._holding(level)
            if not sets.numel():
                continue
            states = self._levels[level].get(sets)
            more = begun[sets].nonzero().flatten()
            if more.numel():
                left = take(states, more)
                both = self._combine(left, take(folded, place[sets[more]]))
                states = map_state(lambda s, b, more=more: s.index_copy(0, more, b), states, both)
            folded = map_state(
                lambda f, s, rows=place[sets]: f.index_copy(0, rows, s), folded, states
            )
            begun[sets] = True
        if occupied.numel() == self.num_sets:
            return folded
        return self.monoid.folds_as.place(folded, occupied, self.num_sets)

    def detach(self) -> None:
        """Forget how the states were computed: gradients end here."""
        for slots in self._levels:
            slots.detach()

    def copy(self) -> Accumulator:
        """Another accumulator that has taken in the same, with its graph, and goes on by itself."""
        other = Accumulator(self.monoid, gradient=self.gradient)
        other.counts, other._like = self.counts.clone(), self._like
        other._levels = [slots.copy() for slots in self._levels]
        return other

    # To files and back -------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """All that the accumulator holds but the monoid, as tensors.

        ``"counts"``; ``"like"``, an element's shape and dtype; and for each level the sets that
        have a state there and the tensors of these states. Without gradients.

        Raises:
            ValueError: there has been no chunk.
        """
        if self._like is None:
            raise ValueError("the accumulator has taken in no chunk: there is nothing to keep")
        found = {"counts": self.counts.clone(), "like": self._like.clone()}
        for level in range(len(self._levels)):
            sets = self._holding(level)
            if not sets.numel():
                continue
            found[f"levels.{level}.sets"] = sets
            for number, tensor in enumerate(leaves(self._levels[level].get(sets))):
                found[f"levels.{level}.{number}"] = tensor.detach()
        return found

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Hold what :meth:`state_dict` gave, instead of what is held.

        Raises:
            ValueError: an entry is missing, or does not fit the monoid or the others.
        """
        fresh = Accumulator(self.monoid, gradient=self.gradient)
        try:
            fresh._load(state_dict)
        except (KeyError, IndexError, RuntimeError, StopIteration, ValueError) as error:
            raise ValueError(
                f"'state_dict' is not what an Accumulator of {self.monoid} gives ({error})"
            ) from error
        self.counts, self._like, self._levels = fresh.counts, fresh._like, fresh._levels

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write :meth:`state_dict` to a safetensors file, all or nothing.

        Raises:
            ValueError: there has been no chunk.
            ImportError: safetensors is not installed (extra ``streams``).
            OSError: the file cannot be written.
        """
        write_stream(path, self.state_dict(), {"monoid": repr(self.monoid)})

    def load(self, path: str | os.PathLike[str]) -> None:
        """Hold what :meth:`save` wrote, on the CPU, instead of what is held.

        The file holds no monoid: parameters are loaded with the monoid's own ``state_dict``.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged, is something else, or is of another monoid.
            ImportError: safetensors is not installed (extra ``streams``).
        """
        tensors, about = read_stream(path)
        check_monoid_of(path, about, self.monoid)
        self.load_state_dict(tensors)

    def _load(self, state_dict: Mapping[str, Tensor]) -> None:
        self.counts, self._like = state_dict["counts"].clone(), state_dict["like"].clone()
        kept = []
        like = self._lifted_none()
        expected = {"counts", "like"}
        for level in range(int(self.counts.max()).bit_length() if self.num_sets else 0):
            sets = self._holding(level)
            if not sets.numel():
                continue
            names = [f"levels.{level}.{number}" for number in range(len(leaves(like)))]
            expected |= {f"levels.{level}.sets", *names}
            if not torch.equal(state_dict[f"levels.{level}.sets"], sets):
                raise ValueError(f"the sets of level {level} are not those that counts tell of")
            states = unflatten(like, [state_dict[name] for name in names])
            for one, other in zip(leaves(states), leaves(like), strict=True):
                if one.shape[1:] != other.shape[1:] or one.dtype != other.dtype:
                    raise ValueError(
                        f"states of level {level} are {tuple(one.shape[1:])} {one.dtype}, not "
                        f"{tuple(other.shape[1:])} {other.dtype}"
                    )
            kept.append(Kept(level, sets, map_state(Tensor.clone, states)))
        self._keep(kept, self._like, self.counts)
        if set(state_dict) - expected:
            raise ValueError(f"it has more: {', '.join(sorted(set(state_dict) - expected))}")

    # How ---------------------------------------------------------------------------------------

    def _fold_blocks(
        self, states: State, plan: FoldPlan, before: Tensor
    ) -> tuple[State, Tensor, Tensor, Tensor]:
        """Fold a chunk's whole subtrees: their states, sets, places in the set and levels."""
        sets = plan.sizes.nonzero().flatten()
        start = before[sets]
        owner, begin, level = whole_blocks(start, start + plan.sizes[sets])
        ptr = torch.cat([level.new_zeros(1), (1 << level).cumsum(0)])
        blocks = FoldPlan(ptr, plan.num_elements, plan.permutation)
        return segment_reduce(self.monoid, states, plan=blocks), sets[owner], begin, level

    def _insert(
        self, before: Tensor, states: State, sets: Tensor, begin: Tensor, level: Tensor
    ) -> list[Kept]:
        """Add subtrees to those that are kept, which carries from level to level.

        Returns:
            What is to be kept.
        """
        by_level = level.argsort(stable=True)
        ends = torch.bincount(level, minlength=1).cumsum(0).tolist()
        up = Neighbours(sets[:0], begin[:0], take(states, by_level[:0]))
        kept = []
        number, at = 0, 0
        while number < len(ends) or up.sets.numel():
            end = ends[number] if number < len(ends) else at
            rows, at = by_level[at:end], end
            here = Neighbours(
                torch.cat([up.sets, sets[rows]]),
                torch.cat([up.where, begin[rows] >> number]),
                _cat(up.states, take(states, rows)),
            )
            rest, up = self._carry(number, here, before)
            kept.append(rest)
            number += 1
        return kept

    def _carry(self, level: int, here: Neighbours, before: Tensor) -> tuple[Kept, Neighbours]:
        """Combine neighbours of one level: what has none is kept, the others go up."""
        sets, where, states = here
        touched = sets.unique()
        waiting = touched[_digit(before[touched], level)]
        if waiting.numel():
            sets = torch.cat([waiting, sets])
            where = torch.cat([(before[waiting] >> level) - 1, where])
            states = _cat(self._levels[level].get(waiting), states)
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

    def _add(self, other: Accumulator, mine: Tensor, theirs: Tensor) -> list[Kept]:
        """Add another's subtrees of each level, as digits of binary numbers are added."""
        kept = []
        carried: list[tuple[Tensor, State]] = []
        for level in range(int((mine + theirs).max()).bit_length() if mine.numel() else 0):
            parts = []
            for levels, counts in ((self._levels, mine), (other._levels, theirs)):
                holding = _digit(counts, level).nonzero().flatten()
                if holding.numel():
                    parts.append((holding, levels[level].get(holding)))
            parts += carried
            if parts:
                rest, carried = self._add_digit(level, parts)
                kept.append(rest)
        return kept

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

    def _keep(self, kept: list[Kept], like: Tensor, counts: Tensor) -> None:
        """Now that all has gone well."""
        self._like = like.detach()[:0].clone()
        self.counts = counts
        for level, sets, states in kept:
            while len(self._levels) <= level:
                self._levels.append(Slots(counts.device))
            if sets.numel():
                self._levels[level].put(sets, states, counts.numel())

    def _combine(self, left: State, right: State) -> State:
        monoid = self.monoid.folds_as
        return cast_like(monoid.combine(left, right), left, monoid)

    def _holding(self, level: int) -> Tensor:
        """The sets that have a state at ``level``."""
        return _digit(self.counts, level).nonzero().flatten()

    def _lifted_none(self) -> State:
        """States of no elements."""
        assert self._like is not None
        with torch.no_grad():
            return self.monoid.lift(self._like)

    def _check_like(self, x: Tensor) -> None:
        like = self._like
        if like is None:
            return
        for what in ("dtype", "device"):
            if getattr(x, what) != getattr(like, what):
                raise ValueError(
                    f"elements must be of the same {what} as before, {getattr(like, what)} "
                    f"(got {getattr(x, what)})"
                )
        if x.shape[1:] != like.shape[1:]:
            raise ValueError(
                f"elements must have shape [n, {', '.join(map(str, like.shape[1:]))}] as before "
                f"(got {tuple(x.shape)})"
            )

    def _check_aligned(self, mine: Tensor, theirs: Tensor) -> None:
        size = torch.ones_like(theirs)
        for _ in range(int(theirs.max()).bit_length() if theirs.numel() else 0):
            size = torch.where(size < theirs, 2 * size, size)
        wrong = ((mine % size != 0) & (theirs > 0)).nonzero().flatten()
        if wrong.numel():
            one = int(wrong[0])
            raise ValueError(
                f"{self.monoid} is not commutative, and set {one} has {int(mine[one])} elements, "
                f"not a multiple of {int(size[one])}: {int(theirs[one])} more can be merged in no "
                "order but their own; pass them to update instead"
            )

    def __repr__(self) -> str:
        return f"Accumulator({self.monoid}, sets={self.num_sets}, elements={self.num_elements})"


def _cat(*states: State) -> State:
    return map_state(lambda *tensors: torch.cat(tensors), *states)


def _digit(numbers: Tensor, place: int) -> Tensor:
    """Whether the binary digit at ``place`` is 1."""
    return (numbers >> place) & 1 == 1


def _counts(accumulator: Accumulator, num_sets: int, device: torch.device) -> Tensor:
    """A copy of the numbers of elements, of ``num_sets`` at least."""
    counts = accumulator.counts.to(device)
    return _padded(counts, max(num_sets, counts.numel()))


def _padded(counts: Tensor, num_sets: int) -> Tensor:
    return torch.cat([counts, counts.new_zeros(num_sets - counts.numel())])
