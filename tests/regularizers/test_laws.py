"""The losses against a recursion over trees written down as nested tuples."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lcm_graph.monoids import BinaryGRU, Moments, Sum, Symmetrized
from lcm_graph.reduce import FoldPlan
from lcm_graph.regularizers import associativity_error, associativity_loss, commutativity_loss
from tests.references import GeneralGRU, Operator, Ordered, error, gradients, gru_pair, ptr_of

SIZES = (4, 0, 1, 2, 3, 16, 17, 33)


def tree_of(rows: list[Any]) -> Any:
    """The balanced tree of a set: leaves are rows, inner nodes pairs."""
    while len(rows) > 1:
        pairs = [(rows[i], rows[i + 1]) for i in range(0, len(rows) - 1, 2)]
        rows = [*pairs, rows[-1]] if len(rows) % 2 else pairs
    return rows[0]


Pair = tuple[Tensor, Tensor]


def terms(op: Operator, tree: Any) -> tuple[Tensor, list[Pair], list[Pair]]:
    """The value of a tree, its associativity terms, and the operands of all its combines."""
    if not isinstance(tree, tuple):
        return tree, [], []
    left, of_left, at_left = terms(op, tree[0])
    right, of_right, at_right = terms(op, tree[1])
    found = [*of_left, *of_right]
    if isinstance(tree[0], tuple):
        a, b = (terms(op, t)[0] for t in tree[0])
        if isinstance(tree[1], tuple):
            c, d = (terms(op, t)[0] for t in tree[1])
            found.append((op(op(a, b), c), op(a, op(b, c))))
            found.append((op(op(b, c), d), op(b, op(c, d))))
        else:
            found.append((op(op(a, b), right), op(a, op(b, right))))
    elif isinstance(tree[1], tuple):  # on random trees only
        b, c = (terms(op, t)[0] for t in tree[1])
        found.append((op(op(left, b), c), op(left, op(b, c))))
    return op(left, right), found, [*at_left, *at_right, (left, right)]


def by_hand(op: Operator, x: Tensor, ptr: Tensor) -> tuple[list[Pair], list[Pair]]:
    associators: list[Pair] = []
    operands: list[Pair] = []
    for start, end in zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True):
        if start < end:
            _, found, at = terms(op, tree_of(list(x[start:end].split(1))))
            associators += found
            operands += at
    return associators, operands


@pytest.mark.parametrize("kind", ["gru", "general gru", "ordered"])
def test_associativity_loss(kind: str) -> None:
    monoid = {"gru": BinaryGRU, "general gru": GeneralGRU, "ordered": Ordered}[kind](4).double()
    op = gru_pair(monoid) if isinstance(monoid, BinaryGRU) else monoid.combine
    x = torch.randn(sum(SIZES), 4, dtype=torch.float64, requires_grad=True)
    ptr = ptr_of(SIZES)
    plan = FoldPlan.from_ptr(ptr)
    pairs, _ = by_hand(op, x, ptr)
    squares = torch.stack([(p - q).square().sum() for p, q in pairs])
    expected = squares.mean()
    actual = associativity_loss(monoid, monoid.lift(x), plan).double()
    assert error(actual, expected) < 1e-6  # summed in float32
    inputs = [x, *(p for name, p in monoid.named_parameters() if name != "empty")]
    for got, wanted in zip(gradients(actual, inputs), gradients(expected, inputs), strict=True):
        assert error(got, wanted) < 1e-6
    size = torch.stack([p.square().sum() for p, _ in pairs]).sum()
    relative = associativity_error(monoid, monoid.lift(x), plan)
    assert relative == pytest.approx((squares.sum() / size).sqrt().item(), rel=1e-5)


def test_commutativity_loss() -> None:
    monoid = Ordered(4).double()
    x = torch.randn(sum(SIZES), 4, dtype=torch.float64, requires_grad=True)
    ptr = ptr_of(SIZES)
    _, operands = by_hand(monoid.combine, x, ptr)
    squares = [(monoid.combine(a, b) - monoid.combine(b, a)).square().sum() for a, b in operands]
    expected = torch.stack(squares).mean()
    actual = commutativity_loss(monoid, x, FoldPlan.from_ptr(ptr)).double()
    assert error(actual, expected) < 1e-6
    inputs = [x, monoid.left, monoid.right]
    for got, wanted in zip(gradients(actual, inputs), gradients(expected, inputs), strict=True):
        assert error(got, wanted) < 1e-6


def test_unsorted_elements_and_gathered_rows_are_the_same_sets() -> None:
    monoid = BinaryGRU(4)
    index = torch.arange(3).repeat_interleave(torch.tensor([5, 9, 2]))[torch.randperm(16)]
    x = torch.randn(16, 4)
    plan = FoldPlan.from_index(index, 3)
    in_order = x[index.argsort(stable=True)]
    expected = associativity_loss(
        monoid, monoid.lift(in_order), FoldPlan.from_ptr(ptr_of((5, 9, 2)))
    )
    assert error(associativity_loss(monoid, monoid.lift(x), plan), expected) < 1e-6
    table, source = x[:7], torch.randint(0, 7, (16,))
    gathered = associativity_loss(monoid, monoid.lift(table), plan.gather(source, 7))
    written = associativity_loss(monoid, monoid.lift(table[source]), plan)
    assert error(gathered, written) < 1e-6


@pytest.mark.parametrize("monoid", [Sum(3), Moments(3), Symmetrized(torch.maximum, 3)], ids=str)
def test_associative_monoids_have_none(monoid) -> None:
    x = torch.randn(sum(SIZES), 3, dtype=torch.float64)
    plan = FoldPlan.from_ptr(ptr_of(SIZES))
    assert associativity_loss(monoid, monoid.lift(x), plan).item() < 1e-12
    assert associativity_error(monoid, monoid.lift(x), plan) < 1e-7
    assert commutativity_loss(monoid, monoid.lift(x), plan).item() < 1e-12


@pytest.mark.parametrize("sizes", [(), (0, 0), (1, 1), (2, 1)])
def test_sets_too_small_for_the_law_cost_nothing(sizes: tuple[int, ...]) -> None:
    monoid = BinaryGRU(4)
    x = torch.randn(sum(sizes), 4, requires_grad=True)
    plan = FoldPlan.from_ptr(ptr_of(sizes))
    loss = associativity_loss(monoid, monoid.lift(x), plan)
    assert loss.item() == 0
    loss.backward()
    assert associativity_error(monoid, monoid.lift(x), plan) == 0.0


def test_training_on_the_loss_makes_the_operator_more_associative() -> None:
    torch.manual_seed(0)
    monoid = BinaryGRU(8)
    x = torch.randn(256, 8)
    plan = FoldPlan.from_ptr(torch.arange(0, 257, 16))
    before = associativity_error(monoid, monoid.lift(x), plan)
    optimizer = torch.optim.Adam(monoid.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        associativity_loss(monoid, monoid.lift(x), plan).backward()
        optimizer.step()
    assert associativity_error(monoid, monoid.lift(x), plan) < before / 2


def test_random_trees() -> None:
    monoid = BinaryGRU(4).double()
    x = torch.randn(sum(SIZES), 4, dtype=torch.float64, requires_grad=True)
    plan = FoldPlan.from_ptr(ptr_of(SIZES)).bracketed(torch.Generator().manual_seed(0))
    trees: dict[int, object] = dict(enumerate(x.split(1)))
    for left, right in plan.levels:
        for a, b in zip(left.tolist(), right.tolist(), strict=True):
            trees[a] = (trees[a], trees.pop(b))
    pairs = [pair for tree in trees.values() for pair in terms(gru_pair(monoid), tree)[1]]
    leaf_first = [t for t in trees.values() if isinstance(t, tuple) and not isinstance(t[0], tuple)]
    assert leaf_first, "some tree is a (b c)"
    expected = torch.stack([(p - q).square().sum() for p, q in pairs]).mean()
    actual = associativity_loss(monoid, monoid.lift(x), plan)
    assert error(actual, expected) < 1e-12
    inputs = [x, *(p for name, p in monoid.named_parameters() if name != "empty")]
    for got, wanted in zip(gradients(actual, inputs), gradients(expected, inputs), strict=True):
        assert error(got, wanted) < 1e-12
