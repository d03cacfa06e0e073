"""The first elements of learned orders, against sorting."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lcm_graph.monoids import KeyedTopK
from lcm_graph.reduce import FoldPlan, segment_reduce, tree_reduce
from tests.references import error, gradients, index_of

SIZES = (4, 0, 1, 2, 11)


def by_sorting(monoid: KeyedTopK, x: Tensor) -> Tensor:
    """One set's picks, an order after the other."""
    picks = x.new_zeros(monoid.k, monoid.heads, x.size(1))
    for head in range(monoid.heads):
        keys = [
            sum(torch.sinh(8 * a) * v for a, v in zip(monoid.weight[head], row, strict=True))
            for row in x
        ]
        order = sorted(range(len(x)), key=lambda i: keys[i].item())[: monoid.k]
        for place, row in enumerate(order):
            picks[place, head] = x[row]
    return picks.flatten()


@pytest.mark.parametrize("fold", [segment_reduce, tree_reduce])
@pytest.mark.parametrize(("k", "heads", "spare"), [(1, 1, 0), (2, 1, 2), (3, 2, 1)])
def test_picks_whole_elements(k: int, heads: int, spare: int, fold) -> None:
    monoid = KeyedTopK(3, k, heads, spare).double().eval()
    index = index_of(SIZES)[torch.randperm(sum(SIZES))]
    x = torch.randn(sum(SIZES), 3, dtype=torch.float64, requires_grad=True)
    plan = FoldPlan.from_index(index, len(SIZES))
    out = monoid.lower(fold(monoid, monoid.lift(x), plan=plan))
    expected = torch.stack([by_sorting(monoid, x[index == s]) for s in range(len(SIZES))])
    assert error(out, expected) == 0
    assert error(gradients(out, [x])[0], gradients(expected, [x])[0]) < 1e-12


def test_while_training_picks_blend_with_the_next_in_line() -> None:
    monoid = KeyedTopK(2, k=2, spare=1).double().train()
    x = torch.randn(5, 2, dtype=torch.float64)
    keys = (x @ (8 * monoid.weight).sinh().T).flatten()
    order = keys.argsort()[:3]
    expected = []
    for place in range(2):
        distance = (keys[order] - keys[order[place]]).abs()
        share = torch.softmax(-monoid.sharpness.exp() * torch.asinh(distance), 0)
        expected.append(share @ x[order])
    out = monoid.lower(segment_reduce(monoid, monoid.lift(x)))
    assert error(out.flatten(), torch.cat(expected)) < 1e-12
    (grad,) = torch.autograd.grad(out.square().sum(), monoid.weight)
    assert grad.abs().sum() > 0, "the order learns"


@pytest.mark.parametrize("sizes", [(0,), (1,), (2, 0)])
def test_training_on_fewer_elements_than_slots(sizes) -> None:
    monoid = KeyedTopK(2, k=3, spare=2).train()
    x = torch.randn(sum(sizes), 2, requires_grad=True)
    index = index_of(sizes)
    out = monoid.lower(segment_reduce(monoid, monoid.lift(x), index, dim_size=len(sizes)))
    assert out.isfinite().all()
    assert all(g.isfinite().all() for g in gradients(out, [x, *monoid.parameters()]))


def test_learns_the_order_of_binary_numbers() -> None:
    torch.manual_seed(0)
    monoid = KeyedTopK(6, k=1)
    values = torch.randint(0, 64, (500, 8))
    bits = (values.unsqueeze(-1) >> torch.arange(6)) & 1
    x = bits.flatten(0, 1).float()
    ptr = torch.arange(0, 4001, 8)
    target = bits.gather(1, values.argmin(1).view(-1, 1, 1).expand(-1, 1, 6)).squeeze(1).float()
    optimizer = torch.optim.Adam(monoid.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        picked = monoid.lower(segment_reduce(monoid, monoid.lift(x), ptr=ptr))
        (picked - target).square().mean().backward()
        optimizer.step()
    monoid.eval()
    picked = monoid.lower(segment_reduce(monoid, monoid.lift(x), ptr=ptr))
    assert (picked == target).all(1).float().mean() > 0.95


@pytest.mark.parametrize(
    ("name", "value"), [("k", 0), ("heads", -1), ("spare", -1), ("spare", 1.5)]
)
def test_bad_arguments(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"'{name}' must be"):
        KeyedTopK(3, **{name: value})


def test_a_nan_is_seen() -> None:
    monoid = KeyedTopK(2).eval()
    state = monoid.lift(torch.tensor([[torch.nan, 1.0]]))
    combined = monoid.lower(monoid.combine(state, monoid.identity(1)))
    assert combined[0, 0].isnan() and combined[0, 1] == 1
    x = torch.tensor([[1.0, 2.0], [torch.nan, 1.0], [3.0, 4.0]])
    assert monoid.lower(segment_reduce(monoid, monoid.lift(x)))[0, 0].isnan()


@pytest.mark.parametrize("how", ["autocast", "bfloat16"])
def test_orders_do_not_round(how: str) -> None:
    monoid = KeyedTopK(12, k=1).eval()
    with torch.no_grad():
        monoid.weight.copy_(torch.asinh(-(2.0 ** torch.arange(12))) / 8)
    values = torch.randint(0, 4096, (50, 200))
    x = ((values.unsqueeze(-1) >> torch.arange(12)) & 1).float().flatten(0, 1)
    ptr = torch.arange(0, 10_001, 200)
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        elements = x.bfloat16() if how == "bfloat16" else x
        picked = monoid.lower(segment_reduce(monoid, monoid.lift(elements), ptr=ptr)).float()
    assert torch.equal((picked.long() << torch.arange(12)).sum(1), values.amax(1))


def test_weight_zero_leaves_out() -> None:
    monoid = KeyedTopK(3).eval()
    x = torch.randn(6, 3)
    weight = torch.tensor([1.0, 0, 1, 1, 0, 1])
    weighed = segment_reduce(monoid, monoid.weigh(monoid.lift(x), weight))
    left_out = segment_reduce(monoid, monoid.lift(x[weight == 1]))
    assert torch.equal(monoid.lower(weighed), monoid.lower(left_out))
