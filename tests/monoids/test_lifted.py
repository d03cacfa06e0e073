"""A monoid behind a learned map is that monoid on what the map gives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from lcm_graph.kernels import record_kernels
from lcm_graph.monoids import BinaryGRU, Lifted, LogSumExp, Max, Moments, Monoid, Sum, TopK
from lcm_graph.reduce import FoldPlan, segment_reduce, tree_reduce
from tests.references import Ordered, error, gradients, index_of

SIZES = (4, 0, 1, 2, 11)
MONOIDS = [Sum, Max, Moments, partial(TopK, k=2), BinaryGRU, Ordered]
LAWS = ("commutative", "associative", "idempotent", "invertible", "recomputable")


def features() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 6), nn.GELU(), nn.Linear(6, 4))


@pytest.mark.parametrize("fold", [segment_reduce, tree_reduce])
@pytest.mark.parametrize("make", MONOIDS)
def test_values_and_gradients(make: Callable[[int], Monoid], fold) -> None:
    monoid = make(4).double()
    lifted = Lifted(features().double(), monoid, channels=3)
    index = index_of(SIZES)[torch.randperm(sum(SIZES))]
    plan = FoldPlan.from_index(index, len(SIZES))
    x = torch.randn(len(index), 3, dtype=torch.float64, requires_grad=True)
    out = lifted.lower(fold(lifted, lifted.lift(x), plan=plan))
    expected = monoid.lower(fold(monoid, monoid.lift(lifted.module(x)), plan=plan))
    assert lifted.out_channels == out.size(1)
    assert error(out, expected) < 1e-12
    inputs = [x, *lifted.parameters()]
    found = gradients(out, inputs)
    for got, wanted in zip(found, gradients(expected, inputs), strict=True):
        assert error(got, wanted) < 1e-12
    reached = zip(dict(lifted.named_parameters()), found[1:], strict=True)
    assert all(grad.any() for name, grad in reached if name.startswith("module"))


@pytest.mark.parametrize("make", MONOIDS)
def test_laws_are_the_monoids(make: Callable[[int], Monoid]) -> None:
    monoid = make(4)
    lifted = Lifted(features(), monoid)
    assert [getattr(lifted, law) for law in LAWS] == [getattr(monoid, law) for law in LAWS]


def test_elements_can_be_taken_out_and_be_there_in_part() -> None:
    lifted = Lifted(features(), Sum(4), channels=3)
    x = torch.randn(5, 3)
    states = lifted.lift(x)
    rest = lifted.combine(segment_reduce(lifted, states), lifted.inverse(states[:2].sum(0)))
    assert error(rest, segment_reduce(lifted, states[2:])) < 1e-5
    weight = torch.tensor([1.0, 0.5, 0, 0, 0])
    part = segment_reduce(lifted, lifted.weigh(states, weight))
    assert error(part, states[:1] + states[1:2] / 2) < 1e-6


def test_reset_parameters_reaches_the_module_and_the_monoid() -> None:
    lifted = Lifted(features(), BinaryGRU(4), channels=3)
    before = {name: p.detach().clone() for name, p in lifted.named_parameters()}
    nn.init.ones_(before["monoid.empty"])
    lifted.load_state_dict(before)
    lifted.reset_parameters()
    for name, parameter in lifted.named_parameters():
        assert not torch.equal(parameter, before[name]), name


def test_elements_of_another_size() -> None:
    lifted = Lifted(features(), Sum(4), channels=3)
    with pytest.raises(ValueError, match=r"Lifted takes elements \[n, 3\] \(got shape \(5, 4\)\)"):
        lifted.lift(torch.randn(5, 4))


def test_a_module_that_gives_another_size_than_the_monoid_takes() -> None:
    with pytest.raises(ValueError, match=r"LogSumExp takes elements \[n, 5\]"):
        Lifted(features(), LogSumExp(5)).lift(torch.randn(2, 3))


def test_repr_is_one_line() -> None:
    assert repr(Lifted(nn.Identity(), Sum(4))) == "Lifted(Identity(), Sum(4))"
    assert "\n" not in repr(Lifted(features(), Max(4)))


@pytest.mark.parametrize(
    ("module", "monoid", "message"),
    [
        (torch.tanh, Sum(4), r"'module' must be a torch module \(got builtin_function_or_method\)"),
        (nn.Linear(3, 4), nn.Linear(4, 4), r"'monoid' must be a Monoid \(got Linear\)"),
        (nn.Linear(3, 4), Sum, r"'monoid' must be a Monoid \(got type\)"),
    ],
)
def test_bad_arguments(module: Any, monoid: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Lifted(module, monoid)


def test_folds_as_its_monoid_does() -> None:
    inner = BinaryGRU(4)
    lifted = Lifted(nn.Linear(3, 4), inner, channels=3)
    assert lifted.folds_as is inner
    assert Lifted(nn.Identity(), lifted, channels=3).folds_as is inner
    with record_kernels() as used:
        segment_reduce(lifted, lifted.lift(torch.randn(5, 3)))
    assert "binary_gru/torch" in used
