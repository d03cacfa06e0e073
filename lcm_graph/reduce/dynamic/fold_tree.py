"""``FoldTree``: folds of sets whose elements come, change and go."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from lcm_graph.monoids import Monoid, State
from lcm_graph.monoids.state import map_state, take
from lcm_graph.reduce.dynamic.layout import Layout
from lcm_graph.reduce.lifted import check_monoid_type
from lcm_graph.reduce.plan import make_plan
from lcm_graph.reduce.segment import segment_reduce
from lcm_graph.reduce.sets import check_index, check_tensor, check_vector
from lcm_graph.reduce.steps import cast_like, rows_at_once


class FoldTree:
    """Sets with the nodes of their canonical trees at hand: a change costs log₂ n combines.

    Elements are named by numbers that :meth:`insert` gives, in batches of any size; a batch goes
    up the trees level by level, so that nodes above several changes are made once.

    An element that is removed leaves a gap, as if the identity stood there: no other element moves.
    With a commutative monoid the next one that is inserted into the set takes the place of a gap,
    else all come last. What is answered is the fold of :func:`~lcm_graph.reduce.segment_reduce`
    with identities in the gaps, also of operators that are not associative; since nothing is taken
    back by an inverse, nothing adds up over many changes.

    Answers are constants: no gradients. After the monoid's parameters have changed, :meth:`refold`.
    Memory: for a set of n elements, gaps counted, 2 to 4 n states, as much again for outgrown
    stretches that wait for another set, and up to twice that for room to grow; two integers for
    each number ever given, since numbers are not given again. :meth:`compact` gives back what can
    be. To keep a tree, pickle it.

    A change that fails, by whatever error of the monoid, leaves the tree as it was.

    Args:
        monoid: what to fold with; used as it is, so in evaluation mode if that matters.
        x: the first elements ``[n, features]``; they are numbered from 0 to n - 1.
        index: integers ``[n]``, the set of each. Without ``index`` and ``ptr`` they are one set.
        ptr: integers ``[S + 1]``, if the sets lie end to end.
        dim_size: number of sets, if more than are named; later elements may name more.

    Raises:
        TypeError: ``monoid`` is not a :class:`~lcm_graph.monoids.Monoid`.
        ValueError: see :func:`~lcm_graph.reduce.segment_reduce`.
    """

    def __init__(
        self,
        monoid: Monoid,
        x: Tensor,
        index: Tensor | None = None,
        ptr: Tensor | None = None,
        dim_size: int | None = None,
    ) -> None:
        check_monoid_type(monoid)
        check_tensor("x", x)
        if not x.dim():
            raise ValueError("'x' must be [n, features] (got a tensor of no dimensions)")
        plan = make_plan(x.size(0) if x.dim() else 0, index, ptr, dim_size, x.device)
        self.monoid = monoid
        with _storage():
            self._like = x.new_zeros(0, *x.shape[1:])
            self._given = 0  # numbers of elements; the next two have room for more
            self._set = x.new_empty(0, dtype=torch.int64)  # of each element; -1: none
            self._place = torch.empty_like(self._set)
        self._clear(plan.num_sets)
        self.insert(x, plan.index)

    # Figures -----------------------------------------------------------------------------------

    @property
    def num_sets(self) -> int:
        """One more than the largest set that was named."""
        return self._layout.num_sets

    @property
    def num_elements(self) -> int:
        """Elements that are there."""
        return int((self._set[: self._given] >= 0).sum())

    @property
    def index(self) -> Tensor:
        """The set of each element, by its number: int64; -1 for those that were removed."""
        return self._set[: self._given].clone()

    @property
    def places(self) -> Tensor:
        """The place of each element in its set, by its number: int64, gaps counted; -1 for those
        that were removed."""
        return self._place[: self._given].clone()

    # Changes -----------------------------------------------------------------------------------

    def insert(self, x: Tensor, index: Tensor | None = None) -> Tensor:
        """Put in elements.

        Args:
            x: floating point ``[m, features]``.
            index: integers ``[m]``, the set of each, from 0 up (default: set 0).

        Returns:
            Their numbers, int64 ``[m]``: those that follow the last one given.

        Raises:
            ValueError: ``index`` is no such tensor, or ``x`` has other features, dtype or device
                than the first elements.
        """
        states = self._lift(x)
        if index is None:
            index = torch.zeros(x.size(0), dtype=torch.int64, device=x.device)
        num_sets, _ = check_index(index, x.size(0), None)
        if index.device != x.device:
            raise ValueError(
                f"'index' must be on the elements' device, {x.device} (got {index.device})"
            )
        with _storage():
            sets = index.long().clone()
            self._extend(num_sets)
            place, reused = self._places_for(sets)
            try:
                self._write(states, sets, place)
            except BaseException:
                self._give_back(sets, place, reused)
                raise
            self._set = _appended(self._set, self._given, sets)
            self._place = _appended(self._place, self._given, place)
            self._given += x.size(0)
        return torch.arange(self._given - x.size(0), self._given, device=x.device)

    def change(self, elements: Tensor, x: Tensor) -> None:
        """Put other features in the place of elements.

        Args:
            elements: their numbers, integers ``[m]``, distinct.
            x: floating point ``[m, features]``.

        Raises:
            ValueError: an element is not there or named twice, or ``x`` is not of their number, or
                has other features, dtype or device than before.
        """
        elements = self._checked(elements)
        if x.size(0) != elements.numel():
            raise ValueError(
                f"'x' must have as many elements as are named, {elements.numel()} (got {x.size(0)})"
            )
        with _storage():
            self._write(self._lift(x), self._set[elements], self._place[elements])

    def remove(self, elements: Tensor) -> None:
        """Take elements out; their numbers are not given again.

        Args:
            elements: their numbers, integers ``[m]``, distinct.

        Raises:
            ValueError: an element is not there or named twice.
        """
        elements = self._checked(elements)
        sets, place = self._set[elements], self._place[elements]
        with _storage(), self._undone_if_it_fails(sets, place):
            self._there[self._layout.row(sets, 0, place)] = False
            self._update(sets, place)
        if self.monoid.commutative:
            for own, at in zip(sets.tolist(), place.tolist(), strict=True):
                self._gaps.setdefault(own, []).append(at)
        with _storage():
            self._set[elements] = self._place[elements] = -1

    def refold(self) -> None:
        """Combine everything anew: after the monoid's parameters have changed, but not those of
        its lift, whose states are kept (then make a new tree)."""
        there = (self._set[: self._given] >= 0).nonzero().flatten()
        sets, place = self._set[there], self._place[there]
        with _storage(), self._undone_if_it_fails(sets, place):
            self._update(sets, place)

    def compact(self) -> None:
        """Close the gaps and give back memory: elements move up, in their order.

        Numbers stay. Where there were gaps, the answers of operators that are not associative may
        change: they are those of a tree made anew of the elements that are there.
        """
        there = (self._set[: self._given] >= 0).nonzero().flatten()
        order = there[self._place[there].argsort(stable=True)]
        order = order[self._set[order].argsort(stable=True)]
        fresh = copy.copy(self)
        fresh._clear(self.num_sets)
        with _storage():
            sets = self._set[order]
            leaves = self._layout.row(sets, 0, self._place[order])
            place, _ = fresh._places_for(sets)
            fresh._write(take(self._nodes, leaves), sets, place)
            fresh._set, fresh._place = self._set.clone(), self._place.clone()
            fresh._place[order] = place
        self.__dict__.update(fresh.__dict__)

    # The answer --------------------------------------------------------------------------------

    @torch.no_grad()
    def result(self, sets: Tensor | None = None) -> Tensor:
        """What sets fold to: ``[num_sets, out_channels]``, or ``[m, out_channels]``.

        Args:
            sets: integers ``[m]`` (default: all).

        Raises:
            ValueError: ``sets`` is no such tensor, or names others than there are.
        """
        return self.monoid.lower(self.state(sets))

    @torch.no_grad()
    def state(self, sets: Tensor | None = None) -> State:
        """The same, not lowered."""
        if sets is None:
            sets = torch.arange(self.num_sets, device=self._set.device)
        else:
            check_vector("sets", sets)
            sets = sets.long()
            if sets.numel() and not 0 <= int(sets.min()) <= int(sets.max()) < self.num_sets:
                raise ValueError(
                    f"'sets' must be from 0 to {self.num_sets - 1} "
                    f"(got {int(sets.min())} to {int(sets.max())})"
                )
        has_rows = self._layout.height[sets] >= 0
        roots = self._layout.roots(sets[has_rows])
        occupied = has_rows.nonzero().flatten()[self._there[roots]]
        states = take(self._nodes, roots[self._there[roots]])
        if occupied.numel() == sets.numel():
            return states
        return segment_reduce(self.monoid, states, occupied, dim_size=sets.numel())

    # How ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def _lift(self, x: Tensor) -> State:
        check_tensor("x", x)
        like = self._like
        if x.dtype != like.dtype or x.device != like.device or x.shape[1:] != like.shape[1:]:
            raise ValueError(
                f"'x' must be [m, {', '.join(map(str, like.shape[1:]))}] {like.dtype} on "
                f"{like.device} as the first elements (got {tuple(x.shape)} {x.dtype} on "
                f"{x.device}); make another FoldTree for others"
            )
        return self.monoid.lift(x)

    def _clear(self, num_sets: int) -> None:
        """Hold nothing, in so many sets."""
        device = self._like.device
        with _storage():
            self._layout = Layout(num_sets, device)
            self._used = torch.zeros(num_sets, dtype=torch.int64, device=device)  # with gaps
            self._gaps: dict[int, list[int]] = {}  # set -> places
            self._nodes: State = None
            self._there = torch.empty(0, dtype=torch.bool, device=device)  # of each row

    def _extend(self, num_sets: int) -> None:
        self._layout.extend(num_sets)
        more = self._layout.num_sets - self._used.numel()
        if not more:
            return
        self._used = torch.cat([self._used, self._used.new_zeros(more)])

    def _places_for(self, sets: Tensor) -> tuple[Tensor, Tensor]:
        """A place for one element more in each of ``sets``, which may repeat: gaps first; and
        whether each is one that was a gap."""
        place = torch.full_like(sets, -1)
        if self._gaps:
            for at, own in enumerate(sets.tolist()):
                gaps = self._gaps.get(own)
                if gaps:
                    place[at] = gaps.pop()
                    if not gaps:
                        del self._gaps[own]
        reused = place >= 0
        last = (~reused).nonzero().flatten()
        if not last.numel():
            return place, reused
        order = sets[last].argsort(stable=True)
        mine, counts = sets[last][order].unique_consecutive(return_counts=True)
        rank = torch.arange(last.numel(), device=sets.device)
        rank = rank - (counts.cumsum(0) - counts).repeat_interleave(counts)
        place[last[order]] = self._used[sets[last][order]] + rank
        self._used[mine] += counts
        room = self._layout.height[mine]
        height = torch.frexp((self._used[mine] - 1).double()).exponent.long()  # ⌈log₂ used⌉
        full = height > room
        if full.any():
            self._grow(mine[full], room[full], height[full])
        return place, reused

    def _grow(self, sets: Tensor, before: Tensor, after: Tensor) -> None:
        """Room for ``2 ** after`` elements each; what was the root is handed on to the top."""
        self._move(*self._layout.grow(sets, after))
        had = before >= 0
        sets, before, after = sets[had], before[had], after[had]
        if not sets.numel() or self._nodes is None:
            return
        times = after - before
        owner = torch.arange(len(sets), device=sets.device).repeat_interleave(times)
        above = torch.arange(len(owner), device=sets.device) - (times.cumsum(0) - times)[owner] + 1
        first = torch.zeros_like(above)
        old = self._layout.row(sets[owner], before[owner], first)
        rows = self._layout.row(sets[owner], before[owner] + above, first)
        self._put(rows, take(self._nodes, old))
        self._there[rows] = self._there[old]

    def _give_back(self, sets: Tensor, place: Tensor, reused: Tensor) -> None:
        """Undo :meth:`_places_for`; room that was made stays."""
        for own, at in zip(sets[reused].tolist(), place[reused].tolist(), strict=True):
            self._gaps.setdefault(own, []).append(at)
        fresh = sets[~reused]
        self._used.index_add_(0, fresh, torch.ones_like(fresh), alpha=-1)

    @contextmanager
    def _undone_if_it_fails(self, sets: Tensor, place: Tensor) -> Iterator[None]:
        """Put back what the leaves at ``place`` and the nodes above them held."""
        rows = self._layout.path(sets, place)
        held, there = take(self._nodes, rows), self._there[rows]
        try:
            yield
        except BaseException:
            map_state(lambda t, v: t.index_copy_(0, rows, v), self._nodes, held)
            self._there[rows] = there
            raise

    @contextmanager
    def _empty_if_it_fails(self) -> Iterator[None]:
        """The same before there was anything."""
        try:
            yield
        except BaseException:
            self._nodes = None
            self._there.zero_()
            raise

    def _move(self, before: Tensor, after: Tensor) -> None:
        """Nodes to other rows; rows that are new are empty."""
        values = None if self._nodes is None else take(self._nodes, before)
        there = self._there[before]
        self._there[before] = False
        more = max(0, self._layout.size - self._there.numel())
        if more:  # rows for as many again
            more = max(more, self._there.numel())
            self._there = torch.cat([self._there, self._there.new_zeros(more)])
            if self._nodes is not None:
                self._nodes = map_state(
                    lambda t: torch.cat([t, t.new_zeros(more, *t.shape[1:])]), self._nodes
                )
        if values is not None:
            self._put(after, values)
        self._there[after] = there

    def _write(self, states: State, sets: Tensor, place: Tensor) -> None:
        if self._nodes is None:
            rows = self._there.numel()
            self._nodes = map_state(lambda t: t.new_zeros(rows, *t.shape[1:]), states)
            guard = self._empty_if_it_fails()
        else:
            guard = self._undone_if_it_fails(sets, place)
        with guard:
            row = self._layout.row(sets, 0, place)
            self._put(row, states)
            self._there[row] = True
            self._update(sets, place)

    def _update(self, sets: Tensor, place: Tensor) -> None:
        """Make the nodes above leaves anew, level by level."""
        level = 0
        while True:
            below = self._layout.height[sets] > level
            sets, place = sets[below], place[below] >> 1
            if not sets.numel():
                return
            level += 1
            rows, order = self._layout.row(sets, level, place).sort()
            first = torch.ones_like(rows, dtype=torch.bool)
            first[1:] = rows[1:] != rows[:-1]
            rows, order = rows[first], order[first]
            sets, place = sets[order], place[order]
            self._combine(rows, self._layout.row(sets, level - 1, 2 * place))

    def _combine(self, rows: Tensor, left: Tensor) -> None:
        """Make nodes of the two that begin at ``left``: one that is alone is handed on."""
        right = left + 1
        has_left, has_right = self._there[left], self._there[right]
        alone = has_left ^ has_right
        if alone.any():
            self._put(rows[alone], take(self._nodes, torch.where(has_left, left, right)[alone]))
        both = (has_left & has_right).nonzero().flatten()
        for some in both.split(rows_at_once(self._nodes)):
            one, other = take(self._nodes, left[some]), take(self._nodes, right[some])
            monoid = self.monoid.folds_as
            self._put(rows[some], cast_like(monoid.combine(one, other), one, monoid))
        self._there[rows] = has_left | has_right

    def _put(self, rows: Tensor, values: State) -> None:
        map_state(lambda t, v: t.index_copy_(0, rows, v.to(t.dtype)), self._nodes, values)

    def _checked(self, elements: Tensor) -> Tensor:
        check_vector("elements", elements)
        elements = elements.long()
        if elements.numel():
            low, high = int(elements.min()), int(elements.max())
            if low < 0 or high >= self._given:
                raise ValueError(
                    f"'elements' must be numbers that insert gave, from 0 to {self._given - 1} "
                    f"(got {low} to {high})"
                )
            gone = elements[self._set[elements] < 0]
            if gone.numel():
                raise ValueError(f"'elements' names {int(gone[0])}, which has been removed")
            if elements.unique().numel() != elements.numel():
                raise ValueError("'elements' must be distinct (one is named twice)")
        return elements

    def __repr__(self) -> str:
        return f"FoldTree({self.monoid}, sets={self.num_sets}, elements={self.num_elements})"


@contextmanager
def _storage() -> Iterator[None]:
    """Tensors made within can be changed later, also if the caller is in inference mode."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def _appended(buffer: Tensor, used: int, values: Tensor) -> Tensor:
    """The buffer with ``values`` after its first ``used``; doubled if it is full."""
    room = buffer.numel() - used
    if room < values.numel():
        more = max(values.numel() - room, buffer.numel())
        buffer = torch.cat([buffer, buffer.new_full((more,), -1)])
    buffer[used : used + values.numel()] = values
    return buffer
