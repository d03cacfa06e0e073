"""Folds under autocast."""

from __future__ import annotations

import pytest
import torch

from lcm_graph import LCMAggregation
from lcm_graph.monoids import BinaryGRU, BinaryMLP, LearnedMonoid
from lcm_graph.reduce import segment_reduce
from tests.references import error, gradients, index_of

TOLERANCE = {torch.bfloat16: 5e-2}
INDEX = index_of((5, 0, 1, 17, 8))


@pytest.mark.parametrize("recompute", [True, False], ids=["recompute", "autograd"])
@pytest.mark.parametrize("operator", [BinaryGRU, BinaryMLP])
def test_fold(operator: type[LearnedMonoid], recompute: bool) -> None:
    """The backward pass, which runs outside, recomputes in the precision of the forward pass."""
    monoid = operator(8)
    x = torch.randn(31, 8, requires_grad=True)
    inputs = [x, *monoid.parameters()]
    found = []
    for enabled in (True, False):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            states = segment_reduce(monoid, monoid.lift(x), INDEX, recompute=recompute)
            out = monoid.lower(states)
        assert out.dtype == torch.float32  # a state keeps its dtype
        found.append([out, *gradients(out, inputs)])
    for got, wanted in zip(*found, strict=True):
        assert got.isfinite().all()
        assert error(got, wanted) <= TOLERANCE[torch.bfloat16]
    assert error(found[0][0], found[1][0]) > 1e-5, "nothing was computed in bfloat16"


def test_recomputed_gradients_are_those_of_autograd() -> None:
    monoid = BinaryGRU(8)
    x = torch.randn(31, 8, requires_grad=True)
    found = []
    for recompute in (True, False):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            states = segment_reduce(monoid, monoid.lift(x), INDEX, recompute=recompute)
        found.append(gradients(states.value, [x, *monoid.parameters()]))
    for got, wanted in zip(*found, strict=True):
        assert error(got, wanted) <= 1e-2  # sums of bfloat16 in another order


def test_layer() -> None:
    """A projection gives bfloat16 elements; the answer is near that in float32."""
    aggregation = LCMAggregation(6, 8)
    x = torch.randn(31, 6, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = aggregation(x, INDEX, dim_size=6)
    out.float().square().sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in aggregation.parameters())
    assert error(out.float(), aggregation(x, INDEX, dim_size=6)) <= TOLERANCE[torch.bfloat16]
