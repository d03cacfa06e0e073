"""Every beginning and every window, each folded alone."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from lcm_graph.monoids import BinaryGRU, Max, Mean, Moments, Monoid, Product, Sum, TopK
from lcm_graph.reduce import FoldPlan, prefix_reduce, segment_reduce, window_reduce
from tests.monoids.shipped import MONOIDS
from tests.references import Ordered, error

SIZES = (0, 1, 2, 3, 16, 17, 33)
D = 4


def alone(monoid: Monoid, x: Tensor, index: Tensor, width: int | None) -> Tensor:
    """Each element's own elements, picked one by one and folded by themselves."""
    out = []
    for place, own in enumerate(index.tolist()):
        rows = (index[: place + 1] == own).nonzero().flatten()
        rows = rows if width is None else rows[-width:]
        out.append(monoid.lower(segment_reduce(monoid, monoid.lift(x[rows]))))
    return torch.cat(out) if out else x.new_zeros(0, D)


def mixed() -> Tensor:
    index = torch.arange(len(SIZES)).repeat_interleave(torch.tensor(SIZES))
    return index[torch.randperm(len(index))]


@pytest.mark.parametrize("width", [None, 1, 2, 3, 8, 13, 40])
def test_values_and_gradients(width: int | None) -> None:
    """Of an operator whose answer tells of every other tree and order."""
    monoid = Ordered(D).double()
    index = mixed()
    x = torch.randn(len(index), D, dtype=torch.float64, requires_grad=True)
    lifted = monoid.lift(x)
    if width is None:
        found = monoid.lower(prefix_reduce(monoid, lifted, index))
    else:
        found = monoid.lower(window_reduce(monoid, lifted, width, index))
    expected = alone(monoid, x, index, width)
    assert error(found, expected) <= 1e-12
    inputs = [x, *(monoid.parameters() if width != 1 else ())]  # windows of one combine nothing
    cotangent = torch.randn_like(found)
    for one, other in zip(
        torch.autograd.grad(found, inputs, cotangent),
        torch.autograd.grad(expected, inputs, cotangent),
        strict=True,
    ):
        assert error(one, other) <= 1e-12


@pytest.mark.parametrize("name", MONOIDS)
def test_every_monoid(name: str) -> None:
    monoid = MONOIDS[name]().double().eval()
    x = torch.randn(21, int(monoid.channels or 0), dtype=torch.float64)
    index = torch.arange(21) % 2
    states = monoid.lift(x)
    prefixes = monoid.lower(prefix_reduce(monoid, states, index))
    assert error(prefixes, alone(monoid, x, index, None)) <= 1e-9
    windows = monoid.lower(window_reduce(monoid, states, 5, index))
    assert error(windows, alone(monoid, x, index, 5)) <= 1e-9


def test_elements_that_share_rows() -> None:
    """A plan that gathers: a walk's beginnings, read from the features of the nodes."""
    monoid = Product(Sum(2), Max(2))
    x, walk = torch.randn(5, 2), torch.tensor([0, 3, 3, 1, 4, 2, 0])
    index = torch.tensor([0, 1, 0, 0, 1, 1, 0])
    plan = FoldPlan.from_index(index).gather(walk, 5)
    expected = monoid.lower(prefix_reduce(monoid, monoid.lift(x[walk]), index))
    found = monoid.lower(prefix_reduce(monoid, monoid.lift(x), plan=plan))
    assert torch.equal(found, expected)


def test_nothing() -> None:
    none = torch.empty(0, D)
    assert prefix_reduce(Sum(D), none).shape == (0, D)
    assert window_reduce(Sum(D), none, 3, dim_size=1).shape == (0, D)
    index = torch.empty(0, dtype=torch.int64)
    assert prefix_reduce(Sum(D), none, index, dim_size=3).shape == (0, D)


@pytest.mark.parametrize("width", [0, -1, 2.0, True, "3"])
def test_widths_that_are_none(width: object) -> None:
    with pytest.raises(ValueError, match="'width' must be a positive integer"):
        window_reduce(Sum(D), torch.randn(3, D), width)  # type: ignore[arg-type]


def test_plans_of_other_elements() -> None:
    plan = FoldPlan.from_ptr(torch.tensor([0, 4]))
    with pytest.raises(ValueError, match="for 4 elements"):
        prefix_reduce(Sum(D), torch.randn(3, D), plan=plan)
    with pytest.raises(ValueError, match="already says"):
        window_reduce(Sum(D), torch.randn(4, D), 2, dim_size=1, plan=plan)


@pytest.mark.parametrize("fold", [segment_reduce, prefix_reduce, partial(window_reduce, width=2)])
def test_what_cannot_be_folded(fold: Any) -> None:
    """Elements that were not lifted, and what is no monoid."""
    x = torch.randn(9, 4)
    for monoid in (BinaryGRU(4), TopK(4, k=2), Mean(4), Moments(4), Product(Sum(4), BinaryGRU(4))):
        with pytest.raises(ValueError, match=r"'states' must be what \w+.lift makes .*lift\(x\)"):
            fold(monoid, x)
    with pytest.raises(TypeError, match="'monoid' must be a Monoid"):
        fold("sum", x)


@pytest.mark.parametrize("fold", [prefix_reduce, partial(window_reduce, width=2)])
def test_plans_of_other_trees(fold: Any) -> None:
    plan = FoldPlan.from_index(torch.zeros(9).long()).bracketed()
    with pytest.raises(ValueError, match="'plan' must be of canonical trees"):
        fold(Sum(4), torch.randn(9, 4), plan=plan)
