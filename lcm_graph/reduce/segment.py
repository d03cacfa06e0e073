"""``segment_reduce``: fold the sets of a ragged batch."""

from __future__ import annotations

from torch import Tensor

from lcm_graph.kernels.registry import closed_form_kernel
from lcm_graph.monoids import Monoid, State
from lcm_graph.monoids.state import leaves, take
from lcm_graph.reduce.lifted import check_monoid_type, explained
from lcm_graph.reduce.plan import FoldPlan, resolve_plan
from lcm_graph.reduce.tree import fold_roots, is_looked_into


def segment_reduce(
    monoid: Monoid,
    states: State,
    index: Tensor | None = None,
    ptr: Tensor | None = None,
    dim_size: int | None = None,
    *,
    plan: FoldPlan | None = None,
    recompute: bool | None = None,
) -> State:
    """Fold the states of each set into one, by a closed form where the monoid has one.

    Otherwise along the trees of a :class:`FoldPlan`: n - S combines for n elements in S sets, no
    padding, and ⌈log₂ max⌉ levels, as the trees are canonical but after ``FoldPlan.bracketed``. The
    result of a set depends on that set alone.

    Gradients of any order, ``torch.func`` transforms (over states and parameters), autocast and
    ``torch.compile`` (of the levels; planning reads sizes on the host) are supported.

    Args:
        monoid: what to combine with.
        states: ``n`` elements along dim 0, as ``monoid.lift`` makes them.
        index: integers ``[n]``, the set of each element, in any order.
        ptr: integers ``[S + 1]``, if the sets lie end to end: set s holds elements ptr[s] to
            ptr[s + 1] - 1. Without ``index``, ``ptr`` and ``plan`` all elements make one set.
        dim_size: number of sets (default: the largest index + 1).
        plan: a plan made before, instead of the three above.
        recompute: recompute each combine in the backward pass, for which a fold keeps the nodes
            of its tree alone, twice its states (themselves included); otherwise it keeps what
            autograd saves, several times as much, and takes less time. Default: recompute if the
            states hold more than a million numbers (eight million for a ``BinaryGRU``; in Triton
            it always is).

    Returns:
        The states of the sets, ``dim_size`` elements along dim 0; the identity for empty sets.

    Raises:
        TypeError: ``monoid`` is no :class:`~lcm_graph.monoids.Monoid`.
        ValueError: ``states`` are elements that were not lifted; ``index`` or ``ptr`` is not a
            one-dimensional integer tensor or has another length than the elements; ``index`` is
            negative or not below ``dim_size``; ``ptr`` does not begin with 0, decreases, or does
            not end with n; they contradict each other, or ``plan`` is for another number of
            elements.
    """
    check_monoid_type(monoid)
    plan = resolve_plan(states, index, ptr, dim_size, plan, canonical=False)
    return explained(monoid, states, _fold, monoid, states, plan, recompute)


def tree_reduce(
    monoid: Monoid, states: State, plan: FoldPlan, *, recompute: bool | None = None
) -> State:
    """Fold along the plan's trees, also where ``monoid`` has a closed form.

    Arguments, result and errors as :func:`segment_reduce`.
    """
    plan = resolve_plan(states, None, None, None, plan, canonical=False)
    return _tree(monoid, states, plan, recompute)


def _tree(monoid: Monoid, states: State, plan: FoldPlan, recompute: bool | None) -> State:
    monoid = monoid.folds_as
    roots = fold_roots(monoid, states, plan, recompute)
    if plan.occupied is None:
        return roots
    return monoid.place(roots, plan.occupied, plan.num_sets)


def _fold(monoid: Monoid, states: State, plan: FoldPlan, recompute: bool | None) -> State:
    monoid = monoid.folds_as
    if monoid.factors:
        return tuple(
            _fold(factor, state, plan, recompute)
            for factor, state in zip(monoid.factors, states, strict=True)
        )
    if not is_looked_into():
        kernel = closed_form_kernel(monoid, leaves(states)[0].device)
        folded = None if kernel is None else kernel(monoid, states, plan, recompute)
        if folded is not None:
            return folded
    closed = None
    if type(monoid).segment is not Monoid.segment or "segment" in monoid.__dict__:
        gathered = states if plan.source is None else take(states, plan.source)
        closed = monoid.segment(gathered, plan.index, plan.num_sets)
        del gathered
    return _tree(monoid, states, plan, recompute) if closed is None else closed
