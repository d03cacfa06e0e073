"""torch.compile: the same numbers, and no graph break once the sets are planned."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch_geometric.nn import SAGEConv
from torch_geometric.nn.aggr import Aggregation

from lcm_graph.aggregators import LCMAggregation, MaxAggregation, MonoidAggregation
from lcm_graph.monoids import TopK
from tests.references import error, gradients

TOLERANCE = 1e-5  # float32
EDGES = torch.stack([torch.arange(40) % 10, torch.arange(40) * 7 % 9])
MAKERS: dict[str, Callable[..., Aggregation]] = {
    "lcm": lambda **kwargs: LCMAggregation(8, 8, **kwargs),
    "topk": lambda **kwargs: MonoidAggregation(TopK(8, k=1), **kwargs),
}


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def agree(layer: torch.nn.Module, compiled: Callable[..., Tensor], x: Tensor) -> None:
    inputs = [x, *layer.parameters()]
    out, expected = compiled(x, EDGES), layer(x, EDGES)
    assert error(out, expected) <= TOLERANCE
    for got, wanted in zip(gradients(out, inputs), gradients(expected, inputs), strict=True):
        assert error(got, wanted) <= TOLERANCE


# 2026-11: torch 2.13, after a graph break, looks at .grad of tensors that are no leaves.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("name", MAKERS)
def test_layer(name: str) -> None:
    conv = SAGEConv(8, 8, aggr=MAKERS[name]())
    agree(conv, torch.compile(conv, backend="aot_eager"), torch.randn(10, 8, requires_grad=True))


@pytest.mark.parametrize("name", MAKERS)
def test_layer_with_a_plan_from_an_eager_call_has_no_graph_break(name: str) -> None:
    conv = SAGEConv(8, 8, aggr=MAKERS[name](cached=True))
    x = torch.randn(10, 8, requires_grad=True)
    conv(x, EDGES)
    agree(conv, torch.compile(conv, backend="aot_eager", fullgraph=True), x)


def test_closed_form_with_a_plan_has_no_graph_break() -> None:
    conv = SAGEConv(8, 8, aggr=MaxAggregation(8))
    conv.aggr_module.cached = True
    x = torch.randn(10, 8, requires_grad=True)
    conv(x, EDGES)
    agree(conv, torch.compile(conv, backend="aot_eager", fullgraph=True), x)


def test_other_sets_give_other_answers() -> None:
    """A compiled layer without ``cached`` plans the sets of each call."""
    aggregation = LCMAggregation(8, 8)
    compiled = torch.compile(aggregation, backend="aot_eager")
    x = torch.randn(12, 8)
    for index in (torch.arange(12) % 3, torch.arange(12) // 5):
        assert error(compiled(x, index), aggregation(x, index)) <= TOLERANCE
