"""Folds of every beginning and of every window of sequences."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_graph.monoids import Monoid, State
from lcm_graph.monoids.state import map_state, take
from lcm_graph.reduce.lifted import check_monoid_type, explained
from lcm_graph.reduce.plan import FoldPlan, resolve_plan
from lcm_graph.reduce.steps import cast_like


def prefix_reduce(
    monoid: Monoid,
    states: State,
    index: Tensor | None = None,
    ptr: Tensor | None = None,
    dim_size: int | None = None,
    *,
    plan: FoldPlan | None = None,
) -> State:
    """Fold each set's first element, its first two, …, up to all of it: causal answers.

    Each is the fold of :func:`~lcm_graph.reduce.segment_reduce` along the canonical tree of these
    elements, also for operators that are not associative. Of n elements in sets of up to m:
    ⌈log₂ m⌉ levels of up to n/2 combines each. By autograd's graph, which keeps every
    level.

    Args:
        monoid: what to combine with.
        states: ``n`` elements along dim 0, as ``monoid.lift`` makes them.
        index: integers ``[n]``, the set of each element; a set's elements in the order in which
            they come.
        ptr: integers ``[S + 1]``, if the sets lie end to end.
        dim_size: number of sets.
        plan: a plan made before, instead of the three above.

    Returns:
        ``n`` states: at the place of each element, the fold of those of its set up to it.

    Raises:
        ValueError: see :func:`~lcm_graph.reduce.segment_reduce`.
    """
    monoid, states, plan = _sequences(monoid, states, index, ptr, dim_size, plan)
    return explained(monoid, states, _prefixes, monoid, states, plan)


def _prefixes(monoid: Monoid, states: State, plan: FoldPlan) -> State:
    places = plan._position
    folded = states  # of each place: the elements from where its block of this level begins
    blocks = states  # of each place that begins a block of this level, and so is even there
    for level in range(int(plan.sizes.max() - 1).bit_length() if plan.num_elements else 0):
        half = 1 << level
        right = ((places >> level) & 1 == 1).nonzero().flatten()
        begin = right - (places[right] & (2 * half - 1))  # of the block of both halves
        folded = _put(folded, right, _combine(monoid, take(blocks, begin), take(folded, right)))
        # A block of both halves is what its last place is folded to.
        whole = right[(places[right] & (2 * half - 1)) == 2 * half - 1]
        begin = whole - (2 * half - 1)
        blocks = _put(blocks, begin, take(folded, whole))
    return _given_order(folded, plan)


def window_reduce(
    monoid: Monoid,
    states: State,
    width: int,
    index: Tensor | None = None,
    ptr: Tensor | None = None,
    dim_size: int | None = None,
    *,
    plan: FoldPlan | None = None,
) -> State:
    """Fold, for each element, the ``width`` elements of its set that end with it.

    The first elements of a set have fewer before them, and answer like :func:`prefix_reduce`. Each
    is the fold of :func:`~lcm_graph.reduce.segment_reduce` along the canonical tree of these
    elements, so that a window answers alike wherever it stands. Of n elements: ⌊log₂ width⌋
    levels of up to n combines, and up to as many for a width that is no power of two.

    Args:
        monoid: what to combine with.
        states: ``n`` elements along dim 0, as ``monoid.lift`` makes them.
        width: how many elements, from 1 up.
        index: see :func:`prefix_reduce`.
        ptr: see :func:`prefix_reduce`.
        dim_size: see :func:`prefix_reduce`.
        plan: see :func:`prefix_reduce`.

    Returns:
        ``n`` states, at the places of the elements.

    Raises:
        ValueError: ``width`` is no integer from 1 up; see :func:`~lcm_graph.reduce.segment_reduce`.
    """
    if isinstance(width, bool) or not isinstance(width, int) or width < 1:
        raise ValueError(f"'width' must be a positive integer (got {width!r})")
    monoid, states, plan = _sequences(monoid, states, index, ptr, dim_size, plan)
    return explained(monoid, states, _windows, monoid, states, plan, width)


def _windows(monoid: Monoid, states: State, plan: FoldPlan, width: int) -> State:
    # How many elements a window has: less than the width at a set's beginning.
    count = (plan._position + 1).clamp(max=width)
    power = states  # of each place: the 2^level elements that end with it, where there are
    folded = states  # of each place: the elements that the lower digits of its count tell of
    begun = (count & 1) == 1
    for level in range(width.bit_length()):
        size = 1 << level
        if level:
            rows = (plan._position >= size - 1).nonzero().flatten()
            both = _combine(monoid, take(power, rows - size // 2), take(power, rows))
            power = _put(power, rows, both)
            digit = (count >> level) & 1 == 1
            fresh = (digit & ~begun).nonzero().flatten()
            folded = _put(folded, fresh, take(power, fresh))
            more = (digit & begun).nonzero().flatten()
            before = more - (count[more] & (size - 1))  # where the lower digits' elements begin
            both = _combine(monoid, take(power, before), take(folded, more))
            folded = _put(folded, more, both)
            begun = begun | digit
    return _given_order(folded, plan)


def _sequences(
    monoid: Monoid,
    states: State,
    index: Tensor | None,
    ptr: Tensor | None,
    dim_size: int | None,
    plan: FoldPlan | None,
) -> tuple[Monoid, State, FoldPlan]:
    """The states with the sets laid end to end."""
    check_monoid_type(monoid)
    plan = resolve_plan(states, index, ptr, dim_size, plan)
    return monoid.folds_as, states if plan.rows is None else take(states, plan.rows), plan


def _given_order(folded: State, plan: FoldPlan) -> State:
    if plan.permutation is None:
        return folded
    back = torch.empty_like(plan.permutation)
    back[plan.permutation] = torch.arange(back.numel(), device=back.device)
    return take(folded, back)


def _combine(monoid: Monoid, left: State, right: State) -> State:
    return cast_like(monoid.combine(left, right), left, monoid)


def _put(states: State, rows: Tensor, values: State) -> State:
    return map_state(lambda s, v: s.index_copy(0, rows, v), states, values)
