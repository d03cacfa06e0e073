"""``FoldTree``: folds of sets whose elements come, change and go."""

from __future__ import annotations

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
    Memory: 2 to 4 states an element, and two integers for each number ever given; numbers are not
    given again. To keep a tree, pickle it.

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
        plan = make_plan(x.size(0) if x.dim() else 0, index, ptr, dim_size, x.device)
        self.monoid = monoid
        self._layout = Layout(plan.num_sets, x.device)
        self._used = torch.zeros(plan.num_sets, dtype=torch.int64, device=x.device)  # with gaps
        self._gaps: dict[int, list[int]] = {}  # set -> places
        self._given = 0  # numbers of elements; the next two have room for more
        self._set = torch.empty(0, dtype=torch.int64, device=x.device)  # of each element; -1: none
        self._place = torch.empty_like(self._set)
        self._nodes: State = None
        self._there = torch.empty(0, dtype=torch.bool, device=x.device)  # of each row
        self._like = x.detach()[:0].clone()
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
        sets = index.long()
        self._extend(num_sets)
        place = self._places_for(sets)
        self._set = _appended(self._set, self._given, sets)
        self._place = _appended(self._place, self._given, place)
        self._given += x.size(0)
        self._write(states, sets, place)
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
        if self.monoid.commutative:
            for own, at in zip(sets.tolist(), place.tolist(), strict=True):
                self._gaps.setdefault(own, []).append(at)
        self._set[elements] = self._place[elements] = -1
        self._there[self._layout.row(sets, 0, place)] = False
        self._update(sets, place)

    def refold(self) -> None:
        """Combine everything anew: after the monoid's parameters have changed, but not those of
        its lift, whose states are kept (then make a new tree)."""
        there = (self._set[: self._given] >= 0).nonzero().flatten()
        self._update(self._set[there], self._place[there])

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

    def _extend(self, num_sets: int) -> None:
        self._layout.extend(num_sets)
        more = self._layout.num_sets - self._used.numel()
        if not more:
            return
        self._used = torch.cat([self._used, self._used.new_zeros(more)])

    def _places_for(self, sets: Tensor) -> Tensor:
        """A place for one element more in each of ``sets``, which may repeat: gaps first."""
        place = torch.full_like(sets, -1)
        if self._gaps:
            for at, own in enumerate(sets.tolist()):
                gaps = self._gaps.get(own)
                if gaps:
                    place[at] = gaps.pop()
                    if not gaps:
                        del self._gaps[own]
        last = (place < 0).nonzero().flatten()
        if not last.numel():
            return place
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
            self._move(*self._layout.grow(mine[full], height[full]))
        return place

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

    @torch.no_grad()
    def _write(self, states: State, sets: Tensor, place: Tensor) -> None:
        if self._nodes is None:
            rows = self._there.numel()
            self._nodes = map_state(lambda t: t.new_zeros(rows, *t.shape[1:]), states)
        row = self._layout.row(sets, 0, place)
        self._put(row, states)
        self._there[row] = True
        self._update(sets, place)

    @torch.no_grad()
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
        map_state(lambda t, v: t.index_copy_(0, rows, v), self._nodes, values)

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


def _appended(buffer: Tensor, used: int, values: Tensor) -> Tensor:
    """The buffer with ``values`` after its first ``used``; doubled if it is full."""
    room = buffer.numel() - used
    if room < values.numel():
        more = max(values.numel() - room, buffer.numel())
        buffer = torch.cat([buffer, buffer.new_full((more,), -1)])
    buffer[used : used + values.numel()] = values
    return buffer
