"""One element after another, and that it keeps what it is given."""

from __future__ import annotations

import pytest
import torch

from lcm_graph.monoids import Mean, Moments, Monoid, Product, Softmax, Sum
from lcm_graph.monoids.state import leaves
from lcm_graph.reduce import sequential_reduce
from tests.references import Ordered, error, index_of, ptr_of

SIZES = (3, 0, 1, 5)


def test_folds_from_the_left() -> None:
    monoid = Ordered(3).double()
    x = torch.randn(9, 3, dtype=torch.float64)
    order = torch.randperm(9)
    folds = []
    for rows in x.split(SIZES):
        fold = rows[:1] if len(rows) else monoid.identity(1, dtype=torch.float64)
        for row in rows[1:]:
            fold = monoid.combine(fold, row[None])
        folds.append(fold)
    expected = torch.cat(folds)
    assert error(sequential_reduce(monoid, x, ptr=ptr_of(SIZES)), expected) <= 1e-12
    in_order = index_of(SIZES)[order].argsort(stable=True)
    given = torch.empty_like(x)
    given[in_order] = x  # unsorted, each set in its own order
    assert error(sequential_reduce(monoid, given, index_of(SIZES)[order]), expected) <= 1e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "monoid", [Sum(2), Mean(2), Moments(2), Softmax(2), Product(Moments(2), Sum(2))], ids=str
)
def test_keeps_dtypes(monoid: Monoid, dtype: torch.dtype) -> None:
    states = monoid.lift(torch.randn(9, 2).to(dtype))
    fold = sequential_reduce(monoid, states, index_of(SIZES))
    assert [t.dtype for t in leaves(fold)] == [t.dtype for t in leaves(states)]


def test_no_sets() -> None:
    fold = sequential_reduce(Sum(2), torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))
    assert fold.shape == (0, 2)
