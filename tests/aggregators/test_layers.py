"""PyG's layers, graphs and transformations around our aggregations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch_geometric import EdgeIndex, Index
from torch_geometric.data import Batch, Data
from torch_geometric.nn import HeteroConv, MessagePassing, SAGEConv, to_hetero
from torch_geometric.nn.aggr import Aggregation

from lcm_graph.aggregators import (
    LCMAggregation,
    MonoidAggregation,
    RecurrentAggregation,
    SumAggregation,
)
from lcm_graph.monoids import TopK
from tests.references import error, index_of

TOLERANCE = 1e-5  # float32
MAKERS: dict[str, Callable[[], Aggregation]] = {
    "sum": SumAggregation,
    "lcm": lambda: LCMAggregation(8, 8),
    "topk": lambda: MonoidAggregation(TopK(8, k=1)),
    "gru": lambda: RecurrentAggregation(8, 8),
}
EDGES = torch.stack([torch.arange(40) % 10, torch.arange(40) * 7 % 9])


@pytest.fixture(params=MAKERS)
def aggregation(request: pytest.FixtureRequest) -> Aggregation:
    return MAKERS[request.param]()


def test_sage(aggregation: Aggregation) -> None:
    conv = SAGEConv(8, 8, aggr=aggregation)
    x = torch.randn(10, 8)
    neighbours = aggregation(x[EDGES[0]], EDGES[1], dim_size=10)
    expected = conv.lin_l(neighbours) + conv.lin_r(x)
    assert error(conv(x, EDGES), expected) <= TOLERANCE


@pytest.mark.parametrize("sort_order", ["col", "row", None])
def test_edge_index(aggregation: Aggregation, sort_order: str | None) -> None:
    """``EdgeIndex`` hands over an ``Index``, and ``ptr`` if it is sorted by destination."""
    conv = SAGEConv(8, 8, aggr=aggregation)
    x = torch.randn(10, 8)
    edges = EDGES
    if sort_order is not None:
        by = EDGES[1 if sort_order == "col" else 0].argsort(stable=True)
        edges = EDGES[:, by]
    expected = conv(x, edges)
    wrapped = EdgeIndex(edges, sparse_size=(10, 10), sort_order=sort_order)
    assert error(conv(x, wrapped), expected) <= TOLERANCE


@pytest.mark.parametrize("is_sorted", [False, True])
def test_index(aggregation: Aggregation, is_sorted: bool) -> None:
    index = index_of((3, 0, 5)) if is_sorted else torch.tensor([2, 0, 2, 2, 0, 0, 2, 2])
    x = torch.randn(8, 8)
    expected = aggregation(x, index, dim_size=4)
    wrapped = Index(index, dim_size=4, is_sorted=is_sorted)
    assert error(aggregation(x, wrapped, dim_size=4), expected) <= TOLERANCE


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8], ids=str)
def test_other_integers(aggregation: Aggregation, dtype: torch.dtype) -> None:
    index, x = torch.tensor([2, 0, 2, 2, 0, 0, 2, 2]), torch.randn(8, 8)
    expected = aggregation(x, index, dim_size=4)
    assert error(aggregation(x, index.to(dtype), dim_size=4), expected) <= TOLERANCE


def test_batch_as_readout(aggregation: Aggregation) -> None:
    graphs = [Data(x=torch.randn(n, 8), num_nodes=n) for n in (4, 1, 7)]
    batch = Batch.from_data_list(graphs)
    expected = torch.cat([aggregation(graph.x) for graph in graphs])
    assert error(aggregation(batch.x, batch.batch), expected) <= TOLERANCE
    assert error(aggregation(batch.x, ptr=batch.ptr), expected) <= TOLERANCE


class Net(torch.nn.Module):
    def __init__(self, aggregation: Aggregation) -> None:
        super().__init__()
        self.conv = SAGEConv((8, 8), 8, aggr=aggregation)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv(x, edge_index).relu()


def hetero() -> tuple[dict[str, Tensor], dict[tuple[str, str, str], Tensor]]:
    xs = {"paper": torch.randn(10, 8), "author": torch.randn(12, 8)}
    edges = {
        ("author", "writes", "paper"): EDGES,
        ("paper", "cites", "paper"): EDGES.flip(0),
        ("paper", "of", "author"): EDGES,
    }
    return xs, edges


def test_to_hetero(aggregation: Aggregation) -> None:
    xs, edges = hetero()
    model = to_hetero(Net(aggregation), (list(xs), list(edges)), aggr="sum")
    out = model(xs, edges)
    conv = model.conv["paper__of__author"]
    expected = conv((xs["paper"], xs["author"]), EDGES).relu()
    assert error(out["author"], expected) <= TOLERANCE
    out["paper"].sum().backward()
    if list(aggregation.parameters()):
        grads = [p.grad for p in model.conv["author__writes__paper"].aggr_module.parameters()]
        assert all(grad is not None and grad.isfinite().all() for grad in grads)


def test_hetero_conv(aggregation: Aggregation) -> None:
    xs, edges = hetero()
    convs = {kind: SAGEConv((8, 8), 8, aggr=aggregation) for kind in edges}
    out = HeteroConv(convs, aggr="sum")(xs, edges)
    parts = [
        convs[kind]((xs[kind[0]], xs["paper"]), edges[kind]) for kind in edges if kind[2] == "paper"
    ]
    assert error(out["paper"], sum(parts)) <= TOLERANCE


def test_decomposed_layers_are_refused() -> None:
    """Each chunk of the features would come alone."""

    class Decomposed(MessagePassing):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.propagate(edge_index, x=x)

    conv = Decomposed(aggr=LCMAggregation(8, 8), decomposed_layers=2)
    with pytest.raises(ValueError, match="LCMAggregation takes elements of 8 features"):
        conv(torch.randn(10, 8), EDGES)
