"""The tree fold against pairing by hand: values, and gradients for random cotangents."""

from __future__ import annotations

import pytest
import torch

from lcm_graph.monoids import BinaryGRU, Monoid, Sum
from lcm_graph.reduce import FoldPlan, segment_reduce, steps, tree
from tests.references import (
    GeneralGRU,
    Operator,
    Ordered,
    error,
    fold_sets,
    gradients,
    gru_pair,
    index_of,
    ptr_of,
)

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
SIZES = {
    "0-33": tuple(range(34)),
    "hub": (3, 1000, 0, 1),
    "singletons": (1,) * 7,
    "one": (21,),
    "empty": (0, 0),
}


def monoid_and_reference(kind: str, dtype: torch.dtype) -> tuple[Monoid, Operator]:
    if kind in ("gru", "general gru"):
        gru = (BinaryGRU if kind == "gru" else GeneralGRU)(4).to(dtype)
        return gru, gru_pair(gru)
    ordered = Ordered(4).to(dtype)
    return ordered, ordered.combine


@pytest.mark.parametrize("recompute", [True, False], ids=["recompute", "autograd"])
@pytest.mark.parametrize("layout", ["sorted", "ptr", "shuffled"])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("kind", ["gru", "general gru", "ordered"])
def test_values_and_gradients(
    kind: str, dtype: torch.dtype, sizes: tuple[int, ...], layout: str, recompute: bool
) -> None:
    if sizes == SIZES["hub"] and (layout != "shuffled" or dtype == torch.float64):
        sizes = (3, 129, 0, 1)  # the large sets once, to keep the loops short
    if sizes == SIZES["0-33"] and (layout != "shuffled" or recompute):
        sizes = (*range(10), 16, 33)
    monoid, combine = monoid_and_reference(kind, dtype)
    index = index_of(sizes)
    if layout == "shuffled":
        index = index[torch.randperm(len(index))]
    x = torch.randn(len(index), 4, dtype=dtype, requires_grad=True)
    inputs = [x, *monoid.parameters()]
    by_ptr = layout == "ptr"
    states = segment_reduce(
        monoid,
        monoid.lift(x),
        None if by_ptr else index,
        ptr_of(sizes) if by_ptr else None,
        len(sizes),
        recompute=recompute,
    )
    out = monoid.lower(states)

    empty = monoid.lower(monoid.identity(1, dtype=dtype))
    expected = fold_sets(combine, x, index, len(sizes), empty)
    assert error(out, expected) <= TOLERANCE[dtype]
    if expected.requires_grad:
        for got, wanted in zip(gradients(out, inputs), gradients(expected, inputs), strict=True):
            assert error(got, wanted) <= TOLERANCE[dtype]


@pytest.mark.parametrize("how", ["reused", "moved", "shuffled", "ordered_by", "repeat"])
def test_plans_made_from_plans(how: str) -> None:
    sizes = (5, 0, 2, 9, 1)
    monoid = Ordered(3).double()
    index = index_of(sizes)[torch.randperm(17)]
    x = torch.randn(17, 3, dtype=torch.float64)
    plan = FoldPlan.from_index(index, 5)
    given = x
    if how == "reused":
        segment_reduce(monoid, torch.randn(17, 3, dtype=torch.float64), plan=plan)
    elif how == "moved":
        plan = plan.to("cpu")
    elif how == "shuffled":
        keys = torch.randperm(17, generator=torch.Generator().manual_seed(3))
        plan = plan.shuffled(torch.Generator().manual_seed(3))
        given, index = x[keys.argsort()], index[keys.argsort()]
    elif how == "ordered_by":
        keys = torch.randint(0, 5, (17,))  # with ties, which keep their order
        plan = plan.ordered_by(keys)
        given, index = x[keys.argsort(stable=True)], index[keys.argsort(stable=True)]
    else:
        plan = plan.repeat(3)
        x = torch.randn(51, 3, dtype=torch.float64)
        given, index = x, torch.cat([index, index + 5, index + 10])
    empty = torch.zeros(1, 3, dtype=torch.float64)
    expected = fold_sets(monoid.combine, given, index, plan.num_sets, empty)
    assert error(segment_reduce(monoid, x, plan=plan), expected) <= 1e-12


@pytest.mark.parametrize("how", ["moved", "shuffled", "ordered_by", "repeat"])
def test_plans_made_from_gathered_plans(how: str) -> None:
    monoid = Ordered(3).double()
    index = index_of((5, 0, 2, 9, 1))[torch.randperm(17)]
    source = torch.randint(0, 6, (17,))
    x = torch.randn(12, 3, dtype=torch.float64)
    keys = torch.randint(0, 5, (17,))
    random = torch.Generator().manual_seed(3)
    plan = FoldPlan.from_index(index, 5)
    gathered = plan.gather(source, 6)
    if how == "moved":
        plan, gathered, elements, rows = plan, gathered.to("cpu"), x[source], x[:6]
    elif how == "repeat":
        plan, gathered = plan.repeat(2), gathered.repeat(2)
        elements, rows = torch.cat([x[source], x[6 + source]]), x
    else:
        plan, gathered = (
            p.ordered_by(keys) if how == "ordered_by" else p.shuffled(random.manual_seed(3))
            for p in (plan, gathered)
        )
        elements, rows = x[source], x[:6]
    for one in (monoid, Sum(3)):
        expected = segment_reduce(one, elements, plan=plan)
        assert error(segment_reduce(one, rows, plan=gathered), expected) <= 1e-12


@pytest.mark.parametrize("kind", ["gru", "ordered"])
def test_chunks_change_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monoid, _ = monoid_and_reference(kind, torch.float64)
    index = torch.randint(0, 50, (3000,))  # some 1500 combines at level 0: six chunks of 256
    x = torch.randn(3000, 4, dtype=torch.float64, requires_grad=True)
    inputs = [x, *monoid.parameters()]
    whole = monoid.lower(segment_reduce(monoid, monoid.lift(x), index, recompute=True))
    expected = [whole, *gradients(whole, inputs)]

    monkeypatch.setitem(steps.CHUNK_ELEMENTS, "cpu", 1)
    calls: list[int] = []
    combine = monoid.combine

    def counting(left, right):
        calls.append(1)
        return combine(left, right)

    monkeypatch.setattr(monoid, "combine", counting)
    parts = monoid.lower(segment_reduce(monoid, monoid.lift(x), index, recompute=True))
    assert len(calls) > FoldPlan.from_index(index).depth + 5
    for got, wanted in zip([parts, *gradients(parts, inputs)], expected, strict=True):
        assert error(got, wanted) <= 1e-12


def test_number_of_combines() -> None:
    """n - S' combines, and no more: absent elements are not combined."""
    rows: list[int] = []

    class Counting(Ordered):
        def combine(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            rows.append(len(left))
            return super().combine(left, right)

    index = index_of((7, 0, 1, 64, 33))
    segment_reduce(Counting(2), torch.randn(105, 2), index)
    assert sum(rows) == 105 - 4
    assert len(rows) == 6


@pytest.mark.parametrize("n", [8, 80], ids=["small", "large"])
def test_recomputes_large_folds_unless_told(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backward pass that recomputes combines each pair twice; one by autograd once."""
    monkeypatch.setattr(tree, "RECOMPUTE_ABOVE", 100)
    rows: list[int] = []

    class Counting(Ordered):
        def combine(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            rows.append(len(left))
            return super().combine(left, right)

    for recompute, times in ((None, 1 if n == 8 else 2), (True, 2), (False, 1)):
        rows.clear()
        x = torch.randn(n, 2, requires_grad=True)
        segment_reduce(Counting(2), x, recompute=recompute).sum().backward()
        assert sum(rows) == times * (n - 1)
