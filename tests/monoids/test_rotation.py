"""Clocks: free while they learn, exact at any size once they have found an order."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lcm_graph.monoids import Rotation
from lcm_graph.reduce import segment_reduce, tree_reduce
from lcm_graph.reduce.plan import make_plan
from tests.references import error, gradients, index_of

SIZES = (4, 0, 1, 2, 11)


def learned(order: int, off: float = 0.0004) -> Rotation:
    """Turns by one position of ``order`` for each unit of its only feature, nearly."""
    monoid = Rotation(1, clocks=1)
    with torch.no_grad():
        monoid.weight.fill_(1 / order + off)
    return monoid


@pytest.mark.parametrize("order", [1, 2, 7, 10, 12])
@pytest.mark.parametrize("fold", [segment_reduce, tree_reduce])
def test_counts_a_hundred_thousand_elements_without_an_error(order: int, fold) -> None:
    monoid = learned(order).eval()
    assert monoid.orders().tolist() == [order]
    values = torch.randint(0, 1000, (100_003,))
    index = index_of((3, 0, 100_000))
    plan = make_plan(len(values), index, None, 3, values.device)
    state = fold(monoid, monoid.lift(values.float().unsqueeze(1)), plan=plan)
    expected = [int(values[index == s].sum()) % order for s in range(3)]
    assert state.flatten().tolist() == expected
    angle = 2 * torch.pi * torch.tensor(expected) / order
    assert error(monoid.lower(state), torch.stack([angle.cos(), angle.sin()], 1)) < 1e-6


def test_what_learning_leaves_is_lost_without_snapping() -> None:
    monoid = learned(2).eval()
    exact = segment_reduce(monoid, monoid.lift(torch.ones(1000, 1)))
    monoid.snap = 0
    drifted = segment_reduce(monoid, monoid.lift(torch.ones(1000, 1)))
    assert exact.item() == 0 and 0.1 < drifted.item() < 0.45


def test_a_snapped_clock_goes_on_learning() -> None:
    monoid = learned(3)
    x = torch.tensor([[1.0], [1.0], [2.0]])
    for training in (True, False):
        state = segment_reduce(monoid.train(training), monoid.lift(x))
        assert state.item() == 1
        out = monoid.lower(state)
        (grad,) = torch.autograd.grad(out[0, 1], monoid.weight)
        # of sin(2 π 4 w), which the answer would be without rounding, at the whole step
        assert grad.item() == pytest.approx(training * 8 * math.pi * out[0, 0].item(), rel=1e-4)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fold", [segment_reduce, tree_reduce])
def test_unsnapped_clocks_are_products_of_complex_numbers(training: bool, fold) -> None:
    monoid = Rotation(3, clocks=5).double().train(training)
    assert training or not monoid.orders().any()
    index = index_of(SIZES)
    x = torch.randn(len(index), 3, dtype=torch.float64, requires_grad=True)
    inputs = [x, monoid.weight]
    plan = make_plan(len(index), index, None, len(SIZES), x.device)
    out = monoid.lower(fold(monoid, monoid.lift(x), plan=plan))

    def product(rows: Tensor) -> Tensor:
        turned = torch.exp(2j * math.pi * (rows @ monoid.weight.T))
        total = turned.prod(0)
        return torch.cat([total.real, total.imag])

    expected = torch.stack([product(x[index == s]) for s in range(len(SIZES))])
    assert error(out, expected) < 1e-12
    for actual, wanted in zip(gradients(out, inputs), gradients(expected, inputs), strict=True):
        assert error(actual, wanted) < 1e-10


def test_the_smallest_order_is_found_and_none_where_there_is_none() -> None:
    monoid = Rotation(2, clocks=4, max_order=12)
    with torch.no_grad():
        monoid.weight.copy_(torch.tensor([[0.5, 3.0], [1 / 3, 0.25], [0.1, -0.7], [0.31, 0.123]]))
    assert monoid.orders().tolist() == [2, 12, 10, 0]


@pytest.mark.parametrize("order", [2, 5, 12])
def test_snap_is_in_steps(order: int) -> None:
    assert learned(order, 0.029 / order).orders() == order
    assert learned(order, 0.031 / order).orders() == 0
    wide = Rotation(1, 1, snap=0.043)
    with torch.no_grad():
        wide.weight.fill_(1.042 / order)
    assert wide.orders() == order
    with pytest.raises(ValueError, match=r"below 0.0435, so that no number .*\(got 0.044\)"):
        Rotation(1, 1, snap=0.044)


def test_small_slopes_are_kept() -> None:
    monoid = Rotation(1, clocks=2).eval()
    with torch.no_grad():
        monoid.weight.copy_(torch.tensor([[0.001], [-0.002]]))
    assert monoid.orders().tolist() == [0, 0]
    one, other = monoid.lower(monoid.lift(torch.tensor([[250.0], [700.0]])))
    assert error(one, other) > 0.1


def test_elements_can_be_taken_out() -> None:
    monoid = learned(10).eval()
    x = monoid.lift(torch.randint(0, 9, (8, 1)).float())
    total = segment_reduce(monoid, x)
    rest = monoid.combine(total, monoid.inverse(segment_reduce(monoid, x[:3])))
    assert torch.equal(rest, segment_reduce(monoid, x[3:]))


def test_learns_parity_on_small_sets_and_counts_large_ones() -> None:
    torch.manual_seed(0)
    monoid = Rotation(4, clocks=8)
    read = torch.nn.Linear(16, 1)
    sizes = torch.randint(1, 9, (4096,))
    bits = torch.randint(0, 2, (int(sizes.sum()), 4)).float()
    index = index_of(sizes.tolist())
    parity = torch.zeros(4096).index_add_(0, index, bits[:, 0]) % 2
    optimizer = torch.optim.Adam([*monoid.parameters(), *read.parameters()], lr=2e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-2, total_steps=500)
    for _ in range(500):
        optimizer.zero_grad()
        logits = read(monoid.lower(segment_reduce(monoid, monoid.lift(bits), index))).squeeze(1)
        torch.nn.functional.binary_cross_entropy_with_logits(logits, parity).backward()
        optimizer.step()
        schedule.step()
    monoid.eval()
    found = monoid.orders() == 2
    assert found.any()
    bits = torch.randint(0, 2, (64, 10_000, 4)).float()
    ptr = torch.arange(0, 640_001, 10_000)
    positions = segment_reduce(monoid, monoid.lift(bits.flatten(0, 1)), ptr=ptr)[:, found]
    expected = bits[:, :, 0].sum(1, keepdim=True) % 2
    assert torch.equal(positions, expected.expand_as(positions))


@pytest.mark.parametrize(
    ("name", "value"),
    [("clocks", 0), ("max_order", -1), ("snap", -0.1), ("snap", 0.05), ("snap", "no")],
)
def test_bad_arguments(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"'{name}' must be"):
        Rotation(3, **{name: value})
