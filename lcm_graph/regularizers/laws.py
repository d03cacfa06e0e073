"""How far an operator is from associative and commutative, on the states that it meets.

All of them look at the internal nodes of the trees that a plan folds along, with the real
intermediate states as operands (Ong & Veličković 2022, Appendix E), so that a law is asked for
where the fold relies on it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lcm_graph.monoids import Monoid, State
from lcm_graph.monoids.state import leaves, map_state, take
from lcm_graph.reduce import FoldPlan
from lcm_graph.reduce.nodes import fold_with_nodes


def associativity_loss(monoid: Monoid, states: State, plan: FoldPlan) -> Tensor:
    r"""The mean of :math:`\|(x \oplus y) \oplus z - x \oplus (y \oplus z)\|^2` over the trees.

    A node whose children are :math:`a \oplus b` and :math:`c \oplus d` gives two terms, of
    ``(a, b, c)`` and ``(b, c, d)``; one whose right child is a leaf ``c`` gives that of
    ``(a, b, c)``; nodes of two leaves give none (Ong & Veličković 2022, Sec. 2.5 and Appendix E).
    On random trees, a leaf may also be the left child: that gives one term. Three to four times the
    work of the fold.

    Args:
        monoid: the operator.
        states: what is folded, as ``monoid.lift`` makes them.
        plan: the sets and their trees.

    Returns:
        A scalar: squared L2 norms, summed over a state's numbers and averaged over all terms; 0
        where no set has three elements.
    """
    terms = _associators(monoid, states, plan)
    return _mean_square(terms.one, terms.other)


@torch.no_grad()
def associativity_error(monoid: Monoid, states: State, plan: FoldPlan) -> float:
    """How far from associative, relative to the states: a root mean square over the trees.

    ``sqrt(Σ |(x y) z - x (y z)|² / Σ |(x y) z|²)`` over the terms of :func:`associativity_loss`; 0
    for an associative operator, about 1 where the bracketing decides everything.
    """
    terms = _associators(monoid, states, plan)
    size = _mean_square(terms.one, map_state(torch.zeros_like, terms.one))
    if size == 0:
        return 0.0
    return float((_mean_square(terms.one, terms.other) / size).sqrt())


def commutativity_loss(monoid: Monoid, states: State, plan: FoldPlan) -> Tensor:
    r"""The mean of :math:`\|x \oplus y - y \oplus x\|^2` over all combines of the trees (ibid.).

    0 by construction for this library's operators. Arguments and result as
    :func:`associativity_loss`.
    """
    nodes, pairs = fold_with_nodes(monoid, states, plan)
    left, right, start = pairs
    swapped = monoid.combine(right, left)
    return _mean_square(map_state(lambda t: t[start:], nodes), swapped)


class _Terms(NamedTuple):
    one: State  # (x ∘ y) ∘ z
    other: State  # x ∘ (y ∘ z)


def _associators(monoid: Monoid, states: State, plan: FoldPlan) -> _Terms:
    nodes, (left, right, start) = fold_with_nodes(monoid, states, plan)
    children = _children(plan)
    # Nodes with (a, b) on the left; of these, those with (c, d) on the right.
    node = (children.left >= 0).nonzero().flatten()
    ab = children.left[node]
    both = (children.right[node] >= 0).nonzero().flatten()
    cd = children.right[node][both]

    a, b = take(left, ab), take(right, ab)
    whole = take(right, node)  # c, or c ∘ d
    c = _replaced(whole, both, take(left, cd))
    bc = monoid.combine(b, c)
    d = take(right, cd)
    # In one batch: a (b c) for all nodes; (b c) d, b (c d) and (a b) c for those with c and d.
    ab_value = take(nodes, start + ab[both])
    combined = monoid.combine(
        _cat(a, take(bc, both), take(b, both), ab_value),
        _cat(bc, d, take(whole, both), take(c, both)),
    )
    n, m = node.numel(), both.numel()
    a_bc, bc_d, b_cd, ab_c = (
        map_state(lambda t: t[low:high], combined)  # noqa: B023
        for low, high in ((0, n), (n, n + m), (n + m, n + 2 * m), (n + 2 * m, n + 3 * m))
    )
    # With a leaf on the right, (a b) c is the node itself.
    ab_c = _replaced(take(nodes, start + node), both, ab_c)
    # A leaf on the left, which canonical trees have not: a (b c) is the node itself.
    mirrored = ((children.left < 0) & (children.right >= 0)).nonzero().flatten()
    bc = children.right[mirrored]
    ab = monoid.combine(take(left, mirrored), take(left, bc))
    leaf_ab_c = monoid.combine(ab, take(right, bc))
    return _Terms(_cat(ab_c, bc_d, leaf_ab_c), _cat(a_bc, b_cd, take(nodes, start + mirrored)))


class _Children(NamedTuple):
    left: Tensor  # int64 [m]: the pair that made each pair's left operand, -1 for a leaf
    right: Tensor


def _children(plan: FoldPlan) -> _Children:
    tree = plan.tree
    leaves_read = tree.level_ptr[1] if len(tree.level_ptr) > 1 else 0
    singles = tree.singles.numel()

    def pairs(operand: Tensor) -> Tensor:
        made = (operand - singles).clamp_min(-1)
        made[:leaves_read] = -1  # level 0 reads elements
        return made

    return _Children(pairs(tree.left), pairs(tree.right))


def _replaced(state: State, rows: Tensor, values: State) -> State:
    return map_state(lambda t, v: t.index_copy(0, rows, v.to(t.dtype)), state, values)


def _cat(*parts: State) -> State:
    return map_state(lambda *tensors: torch.cat(tensors), *parts)


def _mean_square(one: State, other: State) -> Tensor:
    squares = [
        (x - y).to(torch.promote_types(x.dtype, torch.float32)).square().flatten(1).sum(1)
        for x, y in zip(leaves(one), leaves(other), strict=True)
        if x.is_floating_point()
    ]
    total = sum(squares[1:], squares[0])
    return total.sum() / max(total.numel(), 1)
