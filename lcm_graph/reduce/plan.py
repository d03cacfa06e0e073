"""The canonical tree of a ragged batch of sets, planned once."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from lcm_graph.kernels.tree import Tree
from lcm_graph.monoids import State
from lcm_graph.monoids.state import leaves, num_elements
from lcm_graph.reduce.bracketing import random_rounds
from lcm_graph.reduce.sets import (
    check_dim_size,
    check_index,
    check_ptr,
    check_source,
    check_vector,
)


class Level(NamedTuple):
    """Combines that can run at once: row ``left[i]`` takes in row ``right[i]``."""

    left: Tensor  # int64 [m], distinct
    right: Tensor  # int64 [m], distinct; each row of a batch is consumed once, at one level


class CompactLevel(NamedTuple):
    """A :class:`Level` on values that are not overwritten in place.

    The values at hand are ``[c, …]``; combining gives ``[m, …]``; the next values at hand and the
    finished ones are rows of the two put together.
    """

    left: Tensor  # int64 [m], rows of the values at hand
    right: Tensor  # int64 [m]
    keep: Tensor  # int64, rows of cat([at hand, combined]) that later levels need
    done: Tensor  # int64, rows of combined that are whole sets


T = TypeVar("T")


def _kept(compute: Callable[[Any], T]) -> cached_property[T]:
    """A property computed once, of ordinary tensors also where inference mode asks for it."""
    return cached_property(torch.inference_mode(mode=False)(compute))


class FoldPlan:
    r"""Which combines fold every set of a batch, in :math:`\lceil \log_2 \max \rceil` levels.

    Element :math:`p` of a set (:math:`p = 0, 1, \dots`) with :math:`p > 0` is consumed exactly
    once, as right operand, at level :math:`\mathrm{tz}(p)`, its number of trailing zero bits, by
    element :math:`p - 2^{\mathrm{tz}(p)}` on its left. That is the balanced tree in which a last
    odd element moves up a level unpaired; planning a whole batch means sorting its elements by
    :math:`\mathrm{tz}`. Sets of any sizes share the levels, nothing is padded, and a set's tree
    depends on its own size alone.

    Build one with :meth:`from_index` or :meth:`from_ptr` and reuse it as long as the sets stay the
    same (a static graph): ``segment_reduce(monoid, states, plan=plan)``. Rows refer to the elements
    in the order in which they were given, sorted by set or not.
    """

    source: Tensor | None = None
    """The row of the states of each element, int64 ``[n]``, after :meth:`gather`."""

    is_canonical: bool = True
    """Whether the trees are the canonical ones, as they are but after :meth:`bracketed`."""

    def __init__(self, ptr: Tensor, num_elements: int, permutation: Tensor | None = None) -> None:
        """Use :meth:`from_index` or :meth:`from_ptr`, which check their input.

        Args:
            ptr: int64 ``[num_sets + 1]``.
            num_elements: its last entry n, known on the host.
            permutation: int64 ``[n]``: the element at each place of the sets laid end to end;
                ``None`` if they lie so already.
        """
        self.ptr = ptr.clone() if ptr.is_inference() else ptr
        self.num_elements = num_elements
        self.num_states = num_elements
        self.num_sets = ptr.numel() - 1
        self.permutation = permutation
        self.derived: dict[str, Any] = {}  # what kernels worked out for these sets

    @classmethod
    def from_index(
        cls, index: Tensor, dim_size: int | None = None, *, num_elements: int | None = None
    ) -> FoldPlan:
        """Plan sets given by the set of each element.

        Args:
            index: integers ``[n]`` in ``[0, dim_size)``, in any order; elements of a set keep the
                order in which they come.
            dim_size: number of sets (default: the largest index + 1).
            num_elements: how many elements there are, to be checked against ``index``.

        Raises:
            ValueError: see :func:`~lcm_graph.reduce.segment_reduce`.
        """
        dim_size, is_sorted = check_index(index, num_elements, dim_size)
        index = index.long()
        permutation = None
        if not is_sorted:
            index, permutation = index.sort(stable=True)
        ptr = torch._convert_indices_from_coo_to_csr(index, dim_size)
        return cls(ptr, index.numel(), permutation)

    @classmethod
    def from_ptr(cls, ptr: Tensor, *, num_elements: int | None = None) -> FoldPlan:
        """Plan sets that lie end to end: set ``s`` holds elements ``ptr[s]`` to ``ptr[s + 1] - 1``.

        Args:
            ptr: integers ``[num_sets + 1]``, from 0 to n, never decreasing.
            num_elements: n, to be checked against ``ptr`` (default: its last entry).

        Raises:
            ValueError: see :func:`~lcm_graph.reduce.segment_reduce`.
        """
        num_elements = check_ptr(ptr, num_elements, None)
        return cls(_copied(ptr), num_elements)

    # Figures -----------------------------------------------------------------------------------

    @property
    def depth(self) -> int:
        """Levels of the deepest tree: ⌈log₂⌉ of the largest set's size, if it is canonical."""
        return len(self.levels)

    @_kept
    def sizes(self) -> Tensor:
        """Elements of each set: int64 ``[num_sets]``."""
        return self.ptr.diff()

    # The sets ----------------------------------------------------------------------------------

    @_kept
    def index(self) -> Tensor:
        """The set of each element: int64 ``[n]``, in the order in which elements were given."""
        sets = torch.arange(self.num_sets, device=self.ptr.device)
        by_place = sets.repeat_interleave(self.sizes, output_size=self.num_elements)
        if self.permutation is None:
            return by_place
        return torch.empty_like(by_place).index_copy_(0, self.permutation, by_place)

    @_kept
    def occupied(self) -> Tensor | None:
        """The sets that hold elements: int64; ``None`` if all do."""
        occupied = self.sizes.nonzero().flatten()
        return None if occupied.numel() == self.num_sets else occupied

    @_kept
    def roots(self) -> Tensor:
        """The first element of each occupied set, where the set's fold ends up: int64 rows."""
        starts = self.ptr[:-1]
        return self._rows(starts if self.occupied is None else starts[self.occupied])

    # The tree ----------------------------------------------------------------------------------

    @_kept
    def levels(self) -> tuple[Level, ...]:
        """The combines, level by level; one host synchronisation."""
        position = self._position
        lowest = position & -position  # 2 ** tz(position); 0 for the first element of a set
        tz = torch.frexp(lowest.double()).exponent - 1  # -1 for the first element
        order = tz.to(torch.int8).argsort(stable=True)
        counts = torch.bincount(tz + 1, minlength=1).tolist()
        levels = []
        end = counts[0]
        for count in counts[1:]:
            right = order[end : end + count]
            end += count
            levels.append(Level(self._rows(right - lowest[right]), self._rows(right)))
        return tuple(levels)

    @_kept
    def tree(self) -> Tree:
        """The same combines for a buffer of nodes, level after level."""
        device = self.ptr.device
        counts = [level.left.numel() for level in self.levels]
        if self.is_canonical:
            last = self.ptr[1:][self.sizes % 2 == 1] - 1  # an odd set's last element waits
            singles = self._rows(last)
        else:
            waits = torch.ones(self.num_elements, dtype=torch.bool, device=device)
            for rows in self.levels[0] if self.levels else ():
                waits[rows] = False
            singles = waits.nonzero().flatten()
        where = torch.empty(self.num_elements, dtype=torch.int64, device=device)  # among the nodes
        where[singles] = torch.arange(singles.numel(), device=device)
        left, right = [], []
        start = singles.numel()
        for number, level in enumerate(self.levels):
            left.append(where[level.left] if number else level.left)
            right.append(where[level.right] if number else level.right)
            where[level.left] = torch.arange(start, start + counts[number], device=device)
            start += counts[number]
        if self.source is not None:
            singles = self.source[singles]
            for side in (left, right):
                side[:1] = [self.source[rows] for rows in side[:1]]
        none = torch.empty(0, dtype=torch.int64, device=device)
        return Tree(
            torch.cat(left) if left else none,
            torch.cat(right) if right else none,
            singles,
            where[self.roots],
            (0, *accumulate(counts)),
            self.sizes if self.is_canonical else none,
        )

    @_kept
    def level_ptr(self) -> Tensor:
        """Where each level begins among the pairs of :attr:`tree`: int64, on the CPU."""
        return torch.tensor(self.tree.level_ptr)

    @_kept
    def compact_levels(self) -> tuple[tuple[CompactLevel, ...], Tensor, Tensor]:
        """The same combines for a fold that overwrites nothing (see :class:`CompactLevel`).

        Returns:
            The levels; the rows of the elements that are whole sets to begin with; and the row in
            ``cat([those, done of level 0, done of level 1, …])`` of each occupied set.
        """
        n, device = self.num_elements, self.ptr.device
        # The last level a row takes part in: where it is consumed, or where its set is finished.
        life = torch.full((n,), -1, dtype=torch.int64, device=device)
        for number, (left, right) in enumerate(self.levels):
            life[left] = number
            life[right] = number
        is_root = torch.zeros(n, dtype=torch.bool, device=device).index_fill_(0, self.roots, True)

        finished = [(is_root & (life < 0)).nonzero().flatten()]
        at_hand = torch.arange(n, device=device)
        place = at_hand.clone()  # of each row among the values at hand
        levels = []
        for number, (left, right) in enumerate(self.levels):
            newest = place.clone()
            newest[left] = at_hand.numel() + torch.arange(left.numel(), device=device)
            later = at_hand[life[at_hand] > number]
            whole = (is_root & (life == number))[left].nonzero().flatten()
            levels.append(CompactLevel(place[left], place[right], newest[later], whole))
            finished.append(left[whole])
            at_hand = later
            place[later] = torch.arange(later.numel(), device=device)
        rows = torch.cat(finished)
        where = torch.empty(n, dtype=torch.int64, device=device)
        where[rows] = torch.arange(rows.numel(), device=device)
        return tuple(levels), finished[0], where[self.roots]

    @_kept
    def sequence(self) -> tuple[Tensor, list[int], Tensor]:
        """The elements in the order of a packed sequence: the first of each set, the second, …

        Returns:
            Rows int64 ``[n]``, largest set first within a step; the number of sets that reach each
            step; and the occupied sets from largest to smallest.
        """
        by_size = self.sizes.argsort(descending=True, stable=True)
        sets = by_size[: self.roots.numel()]
        rank = torch.empty_like(by_size)
        rank[by_size] = torch.arange(self.num_sets, device=self.ptr.device)
        set_of_place = torch.arange(self.num_sets, device=self.ptr.device).repeat_interleave(
            self.sizes, output_size=self.num_elements
        )
        order = (self._position * self.num_sets + rank[set_of_place]).argsort()
        return self._rows(order), torch.bincount(self._position).tolist(), sets

    def prepared(self) -> FoldPlan:
        """Itself, with all that folds read from it made ready (for ``torch.compile``)."""
        _ = self.index, self.roots, self.compact_levels, self.tree, self.rows
        _ = self.level_ptr, self.sizes, self.occupied
        return self

    # Elements gathered from rows that they share -------------------------------------------------

    def gather(self, source: Tensor, num_states: int) -> FoldPlan:
        """The same sets with element ``e`` found in row ``source[e]`` of the states.

        So are a node's neighbours folded from node features: ``plan.gather(edge_index[0], n)``
        folds what ``plan`` does of ``states[source]``, without writing that.

        Args:
            source: integers ``[n]`` in ``[0, num_states)``.
            num_states: rows of the states to fold.

        Raises:
            ValueError: ``source`` is no such tensor, or is on another device than the plan.
        """
        check_vector("source", source)
        if source.device != self.ptr.device:
            raise ValueError(
                f"'source' must be on the sets' device, {self.ptr.device} (got {source.device})"
            )
        check_source(source, self.num_elements, num_states)
        return self._gathering(_copied(source), num_states)

    def _gathering(self, source: Tensor | None, num_states: int) -> FoldPlan:
        if source is None:
            return self
        gathered = copy(self)
        gathered.source = source
        gathered.num_states = num_states
        gathered.derived = {}
        for name in ("tree", "rows"):
            gathered.__dict__.pop(name, None)
        return gathered

    def gathers(self, source: Tensor, num_states: int) -> bool:
        """Whether :meth:`gather` was given these (compiled graphs check the sizes only)."""
        if self.source is None or self.num_states != num_states:
            return False
        if source.shape != self.source.shape or torch.compiler.is_compiling():
            return source.shape == self.source.shape
        return torch.equal(self.source, source.to(self.source))

    @_kept
    def rows(self) -> Tensor | None:
        """The row of the states at each place of the sets laid end to end; ``None``: the same."""
        if self.source is None:
            return self.permutation
        return self.source if self.permutation is None else self.source[self.permutation]

    # Other orders and batches ------------------------------------------------------------------

    def shuffled(self, generator: torch.Generator | None = None) -> FoldPlan:
        """The same sets with their elements in random order."""
        keys = torch.randperm(self.num_elements, generator=generator, device=self.ptr.device)
        return self.ordered_by(keys)

    def ordered_by(self, keys: Tensor) -> FoldPlan:
        """The same sets with their elements in ascending order of ``keys`` (int64 ``[n]``)."""
        by_key = keys.argsort(stable=True)
        by_set = self.index[by_key].argsort(stable=True)
        plan = FoldPlan(self.ptr, self.num_elements, by_key[by_set])
        return plan._gathering(self.source, self.num_states)

    def bracketed(self, generator: torch.Generator | None = None) -> FoldPlan:
        """The same sets folded along random trees instead of the canonical ones.

        The trees run from balanced ones to combs (see :func:`random_rounds`), so that an operator
        that learns on them meets in small sets the depths of large ones. With shuffled elements, a
        commutative operator meets all its bracketings. Plans made from this one are canonical
        again, but for :meth:`gather`'s.

        Args:
            generator: source of randomness, on the sets' device; the global one if ``None``.
        """
        rounds = random_rounds(self.ptr, generator)
        drawn = copy(self)
        drawn.is_canonical = False
        drawn.derived = {}
        for name in ("tree", "compact_levels", "level_ptr"):
            drawn.__dict__.pop(name, None)
        drawn.__dict__["levels"] = tuple(
            Level(self._rows(left), self._rows(right)) for left, right in rounds
        )
        return drawn

    def repeat(self, times: int) -> FoldPlan:
        """The sets of ``times`` batches laid end to end, each alike to this one."""
        n, device = self.num_elements, self.ptr.device
        offsets = n * torch.arange(times, device=device).unsqueeze(1)
        ptr = torch.cat([self.ptr.new_zeros(1), (self.ptr[1:] + offsets).flatten()])
        permutation = None
        if self.permutation is not None:
            permutation = (self.permutation + offsets).flatten()
        source = self.source
        if source is not None:
            starts = self.num_states * torch.arange(times, device=device).unsqueeze(1)
            source = (source + starts).flatten()
        plan = FoldPlan(ptr, n * times, permutation)
        return plan._gathering(source, self.num_states * times)

    def to(self, device: torch.device | str) -> FoldPlan:
        """The same plan on another device (its levels are planned anew there)."""
        permutation = None if self.permutation is None else self.permutation.to(device)
        source = None if self.source is None else self.source.to(device)
        plan = FoldPlan(self.ptr.to(device), self.num_elements, permutation)
        return plan._gathering(source, self.num_states)

    @_kept
    def _position(self) -> Tensor:
        """The place of each element in its set, the sets laid end to end: int64 ``[n]``."""
        places = torch.arange(self.num_elements, device=self.ptr.device)
        starts = self.ptr[:-1].repeat_interleave(self.sizes, output_size=self.num_elements)
        return places - starts

    def _rows(self, places: Tensor) -> Tensor:
        """The elements at ``places`` of the sets laid end to end."""
        return places if self.permutation is None else self.permutation[places]

    def __repr__(self) -> str:
        return f"FoldPlan(num_sets={self.num_sets}, num_elements={self.num_elements})"


def _copied(vector: Tensor) -> Tensor:
    """A copy as int64: a plan stays as it is, and serves in training, whatever its maker does."""
    with torch.inference_mode(mode=False):
        return vector.to(torch.int64, copy=True)


def resolve_plan(
    states: State,
    index: Tensor | None,
    ptr: Tensor | None,
    dim_size: int | None,
    plan: FoldPlan | None,
    *,
    canonical: bool = True,
) -> FoldPlan:
    """The plan for ``states``: the one given, if it is for such, or a new one.

    Args:
        states: what will be folded.
        index: see :func:`~lcm_graph.reduce.segment_reduce`.
        ptr: see there.
        dim_size: see there.
        plan: see there.
        canonical: whether the plan has to be of canonical trees.

    Raises:
        ValueError: see there; or the plan is on another device, or of other trees.
    """
    n, device = num_elements(states), leaves(states)[0].device
    if plan is None:
        return make_plan(n, index, ptr, dim_size, device)
    if index is not None or ptr is not None or dim_size is not None:
        raise ValueError("'plan' already says what the sets are: leave out index, ptr and dim_size")
    # A comparison would make a compiler fix the size.
    if not torch.compiler.is_compiling() and plan.num_states != n:
        raise ValueError(
            f"'plan' is for {plan.num_states} elements (got {n}); make a new one when the sets "
            "change"
        )
    if plan.ptr.device != device:
        raise ValueError(
            f"'plan' must be on the states' device, {device} (got {plan.ptr.device}); "
            f"move it with plan.to({str(device)!r})"
        )
    if canonical and not plan.is_canonical:
        raise ValueError(
            "'plan' must be of canonical trees (got one that FoldPlan.bracketed made); only "
            "segment_reduce and tree_reduce fold along others"
        )
    return plan


def make_plan(
    num_elements: int,
    index: Tensor | None = None,
    ptr: Tensor | None = None,
    dim_size: int | None = None,
    device: torch.device | None = None,
) -> FoldPlan:
    """The plan for PyG's way of naming sets: ``index``, ``ptr``, both, or neither (one set).

    ``device`` is that of the elements.

    Raises:
        ValueError: see :func:`~lcm_graph.reduce.segment_reduce`.
    """
    for name, where in (("index", index), ("ptr", ptr)):
        if isinstance(where, Tensor) and device is not None and where.device != device:
            raise ValueError(
                f"'{name}' must be on the elements' device, {device} (got {where.device})"
            )
    if ptr is not None:
        check_ptr(ptr, num_elements, dim_size)
        plan = FoldPlan(_copied(ptr), num_elements)
        if index is not None:
            check_index(index, num_elements, None)
            if not torch.equal(index.long(), plan.index):
                raise ValueError(
                    "'index' and 'ptr' name different sets; pass one of them, or an 'index' that "
                    "is sorted and counts as 'ptr' does"
                )
        return plan
    if index is not None:
        return FoldPlan.from_index(index, dim_size, num_elements=num_elements)
    check_dim_size(dim_size)
    if dim_size not in (None, 1):
        raise ValueError(
            f"without 'index' and 'ptr' all elements make one set (got dim_size {dim_size})"
        )
    return FoldPlan(torch.tensor([0, num_elements], device=device), num_elements)
