"""Closed forms take the kernel that is asked for, and answer as without it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lcm_graph import FoldPlan, segment_reduce
from lcm_graph.kernels import backend, record_kernels
from lcm_graph.kernels.segment import closed_forms
from lcm_graph.monoids import (
    LogSumExp,
    Max,
    Mean,
    Min,
    Moments,
    Monoid,
    Product,
    Softmax,
    Sum,
    TopK,
)
from tests.references import error, gradients, index_of

SIZES = (0, 1, 2, 3, 0, 16, 17, 5, 33, 1)
MONOIDS: dict[str, Any] = {
    "sum": Sum,
    "mean": Mean,
    "max": Max,
    "min": Min,
    "moments": lambda: Moments(statistics=("mean", "var")),
    "logsumexp": LogSumExp,
    "softmax": lambda: Softmax(temperature=0.7, learn=True),
}


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closed_forms, "CPU_ABOVE", 0)


def without_kernel(monoid: Monoid) -> Monoid:
    """The same monoid as a class that has no kernel."""
    kind = type(monoid)
    plain: Monoid = kind.__new__(type(kind.__name__, (kind,), {}))
    plain.__dict__.update(monoid.__dict__)
    return plain


def batch(order: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, FoldPlan]:
    n = sum(SIZES)
    index = index_of(SIZES)
    if order != "sorted":
        index = index[torch.randperm(n)]
    plan = FoldPlan.from_index(index, len(SIZES))
    x = torch.randn(n, 5, dtype=dtype)
    if order == "gathered":
        return x[:30].clone(), plan.gather(torch.randint(0, 30, (n,)), 30)
    return x, plan


def fold(monoid: Monoid, x: Tensor, plan: FoldPlan) -> Tensor:
    return monoid.lower(segment_reduce(monoid, monoid.lift(x), plan=plan))


@pytest.mark.parametrize("order", ["sorted", "shuffled", "gathered"])
@pytest.mark.parametrize("how", ["torch", "triton"])
@pytest.mark.parametrize("name", MONOIDS)
def test_backends_agree(name: str, how: str, order: str) -> None:
    monoid: Monoid = MONOIDS[name]().double()
    x, plan = batch(order)
    x.requires_grad_()
    inputs = [x, *monoid.parameters()]
    with backend(how), record_kernels() as ran:
        out = fold(monoid, x, plan)
        found = gradients(out, inputs)
    assert ran == [f"segment_{name}/{how}"]
    with record_kernels() as ran:
        expected = fold(without_kernel(monoid), x, plan)
    assert ran == []
    assert error(out, expected) <= 1e-10
    for got, wanted in zip(found, gradients(expected, inputs), strict=True):
        assert error(got, wanted) <= 1e-10


@pytest.mark.parametrize("how", ["torch", "triton"])
@pytest.mark.parametrize("name", MONOIDS)
def test_second_derivatives_and_transforms(name: str, how: str) -> None:
    monoid: Monoid = MONOIDS[name]().double()
    plain = without_kernel(monoid)
    x, plan = batch("gathered")
    x.requires_grad_()
    with backend(how):
        first = torch.autograd.grad(fold(monoid, x, plan).square().sum(), x, create_graph=True)
        wanted = torch.autograd.grad(fold(plain, x, plan).square().sum(), x, create_graph=True)
        weight = torch.randn_like(x)
        (second,) = torch.autograd.grad((first[0] * weight).sum(), x)
        (expected,) = torch.autograd.grad((wanted[0] * weight).sum(), x)
        assert error(second, expected) <= 1e-9
        with record_kernels() as ran:
            point = x.detach()
            got = torch.func.jvp(lambda x: fold(monoid, x, plan), (point,), (weight,))[1]
            torch.func.vmap(lambda x: fold(monoid, x, plan))(torch.randn(2, *x.shape).double())
        assert ran == []
    tangent = torch.func.jvp(lambda x: fold(plain, x, plan), (point,), (weight,))[1]
    assert error(got, tangent) <= 1e-10


def test_products_and_monoids_without_kernels() -> None:
    x, plan = batch("shuffled")
    monoid = Product(Sum(5), TopK(5, k=2), Max(5))
    with backend("triton"), record_kernels() as ran:
        out = fold(monoid, x, plan)
    assert ran == ["segment_sum/triton", "segment_max/triton"]
    assert error(out, torch.cat([fold(factor, x, plan) for factor in monoid.factors], 1)) <= 1e-12


def test_plan_is_worked_out_once() -> None:
    x, plan = batch("gathered", torch.float32)
    with backend("triton"):
        fold(Sum(5), x, plan)
        known = plan.derived["segments"]
        fold(Mean(5), x, plan)
    assert plan.derived["segments"] is known
    assert plan.gather(torch.zeros(plan.num_elements).long(), 30).derived == {}


def test_small_folds_take_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    x, plan = batch("sorted")
    monkeypatch.setattr(closed_forms, "CPU_ABOVE", x.numel() + 1)
    with record_kernels() as ran:
        fold(Sum(5), x, plan)
        monkeypatch.setattr(closed_forms, "CPU_ABOVE", x.numel())
        fold(Sum(5), x, plan)
    assert ran == ["segment_sum/torch"]
