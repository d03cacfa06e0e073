"""torch.compile, torch.export and autocast of a model with our aggregators."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import SAGEConv

from lcm_graph.aggregators import LCMAggregation, MonoidAggregation, RecurrentAggregation
from lcm_graph.monoids import Moments, TopK
from tests.references import error

N, D = 12, 8
EDGES = torch.stack([torch.arange(40) % N, torch.arange(40) * 7 % (N - 1)])


class Network(nn.Module):
    """Two layers of one graph, and a head."""

    def __init__(self, aggr: Any, width: int = D) -> None:
        super().__init__()
        self.first = SAGEConv((width, D), D, aggr=aggr)
        self.second = SAGEConv(D, D, aggr=LCMAggregation(D, D, cached=True))
        self.head = nn.Linear(D, 3)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        x = self.first((x, x), edge_index).relu()
        out: Tensor = self.head(self.second(x, edge_index))
        return out


MAKERS = {
    "lcm": lambda: Network(LCMAggregation(D, D, cached=True)),
    "topk": lambda: Network(MonoidAggregation(TopK(D, k=2), cached=True), 2 * D),
}


@pytest.mark.parametrize("name", MAKERS)
def test_export(name: str) -> None:
    """For a graph that stays the same, whose plan an eager call has made."""
    network, x = MAKERS[name]().eval(), torch.randn(N, D)
    expected = network(x, EDGES)
    program = torch.export.export(network, (x, EDGES))
    assert error(program.module()(x, EDGES), expected) <= 1e-5
    other = torch.randn(N, D)
    assert error(program.module()(other, EDGES), network(other, EDGES)) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    "make",
    [
        lambda: LCMAggregation(D, D),
        lambda: RecurrentAggregation(D, D),
        lambda: MonoidAggregation(Moments(D, statistics=("mean",))),
    ],
    ids=["lcm", "gru", "mean"],
)
def test_autocast(make: Any, dtype: torch.dtype) -> None:
    """A training step in half precision: near the step in full, gradients in full."""
    network, x = Network(make()), torch.randn(N, D)
    cotangent = torch.randn(N, 3)
    gradients = []
    for enabled in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", dtype, enabled=enabled):
            out = network(x, EDGES)
        assert out.dtype == (dtype if enabled else torch.float32)
        (out.float() * cotangent).sum().backward()
        found = [weight.grad for weight in network.parameters()]
        assert all(grad is not None and grad.dtype == torch.float32 for grad in found)
        gradients.append(torch.cat([grad.flatten() for grad in found if grad is not None]))
    full, half = gradients
    assert (full - half).norm() <= 0.05 * full.norm()
