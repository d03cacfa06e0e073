"""Edge masks: 1 is unchanged, 0 is without the edge."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.explain import Explainer, GNNExplainer
from torch_geometric.nn import GCNConv, MessagePassing, SAGEConv
from torch_geometric.nn.aggr import Aggregation

from lcm_graph.aggregators import (
    LCMAggregation,
    MaxAggregation,
    MeanAggregation,
    MonoidAggregation,
    RecurrentAggregation,
    SumAggregation,
    explain_message,
)
from lcm_graph.monoids import LogSumExp, Moments, Product, Softmax, Sum, TopK
from tests.references import error

MAKERS: dict[str, Callable[[], Aggregation]] = {
    "sum": lambda: SumAggregation(4),
    "max": lambda: MaxAggregation(4),
    "mean": lambda: MeanAggregation(4),
    "lcm": lambda: LCMAggregation(4, 4),
    "lcm-canonical": lambda: LCMAggregation(4, 4, order="canonical"),
    "topk": lambda: MonoidAggregation(TopK(4, k=3)),
    "softmax": lambda: MonoidAggregation(Softmax(4)),
    "logsumexp": lambda: MonoidAggregation(LogSumExp(4)),
    "moments": lambda: MonoidAggregation(Moments(4)),
    "product": lambda: MonoidAggregation(Product(TopK(4), Sum(4))),
}
EDGES = torch.tensor([[0, 1, 2, 3, 4, 0, 2, 3], [1, 1, 1, 1, 2, 2, 3, 4]])
NODES = 6


class Neighbours(MessagePassing):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.propagate(edge_index, x=x, size=(NODES, NODES))


def masked(conv: MessagePassing, mask: Tensor, sigmoid: bool = False) -> None:
    """What PyG's set_masks does to a layer."""
    conv.explain = True
    conv._edge_mask = torch.nn.Parameter(mask)
    conv._loop_mask = EDGES[0] != EDGES[1]
    conv._apply_sigmoid = sigmoid
    conv.explain_message = explain_message.__get__(conv, MessagePassing)


@pytest.mark.parametrize("name", MAKERS)
def test_masks_of_one_and_zero(name: str) -> None:
    aggregation = MAKERS[name]()
    x = -1 - torch.rand(NODES, 4)  # negative, so that a message of 0 would win a maximum
    for drop in ([], [3], [6], [0, 4, 5], list(range(8))):
        conv = Neighbours(aggr=aggregation)
        keep = torch.ones(8).index_fill(0, torch.tensor(drop, dtype=torch.long), 0)
        expected = conv(x, EDGES[:, keep.bool()])
        masked(conv, keep)
        assert error(conv(x, EDGES), expected) <= 1e-6, drop
        conv.explain = False
        assert error(conv(x, EDGES), aggregation(x[EDGES[0]], EDGES[1], dim_size=NODES)) <= 1e-6


@pytest.mark.parametrize("name", MAKERS)
def test_masks_in_between_have_gradients(name: str) -> None:
    conv = Neighbours(aggr=MAKERS[name]())
    masked(conv, torch.linspace(0.1, 0.9, 8), sigmoid=True)
    x = torch.randn(NODES, 4)
    conv(x, EDGES).square().sum().backward()
    assert conv._edge_mask is not None
    grad = conv._edge_mask.grad
    assert grad is not None and grad.isfinite().all() and grad.any()


def test_weight_is_for_one_call() -> None:
    aggregation = SumAggregation(2)
    x = torch.ones(3, 2)
    assert aggregation(x, weight=torch.tensor([1.0, 0, 0])).tolist() == [[1.0, 1.0]]
    aggregation.mask_next(torch.tensor([1.0, 0, 0]))
    assert aggregation(x).tolist() == [[1.0, 1.0]]
    assert aggregation(x).tolist() == [[3.0, 3.0]]


def test_a_refused_mask_is_forgotten() -> None:
    """A weight that could not be used must not stay for the call after."""
    aggregation = SumAggregation(2)
    aggregation.mask_next(torch.ones(3))
    with pytest.raises(ValueError, match="index"):
        aggregation(torch.ones(3, 2), torch.tensor([0.5, 0.5, 0.5]))
    assert aggregation(torch.ones(2, 2)).tolist() == [[2.0, 2.0]]


def test_a_mask_refused_before_the_aggregation_is_forgotten() -> None:
    aggregation = SumAggregation(2)
    aggregation.mask_next(torch.zeros(2))
    with pytest.raises(ValueError, match="dim_size"):
        aggregation(torch.ones(2, 2), ptr=torch.tensor([0, 2]), dim_size=4)
    assert aggregation(torch.ones(2, 2)).tolist() == [[2.0, 2.0]]


@pytest.mark.parametrize("order", ["given", "canonical"])
def test_what_is_masked_is_not_looked_at(order: str) -> None:
    """A NaN behind a mask of 0 reaches neither the answer nor a gradient."""
    aggregation = LCMAggregation(3, 3, order=order)
    x = torch.randn(6, 3)
    x[2] = torch.nan
    weight = torch.tensor([1.0, 1, 0, 1, 1, 1])
    out = aggregation(x, weight=weight)
    rest = torch.tensor([0, 1, 3, 4, 5])
    assert error(out, aggregation(x[rest])) <= 1e-6
    out.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in aggregation.parameters())


def test_recurrent_networks_have_no_identity() -> None:
    with pytest.raises(TypeError, match="RecurrentAggregation has no identity"):
        RecurrentAggregation(2, 2)(torch.ones(3, 2), weight=torch.ones(3))


def test_other_layers_are_refused() -> None:
    conv = SAGEConv(4, 4, aggr="max")
    masked(conv, torch.ones(8))
    with pytest.raises(TypeError, match=r"lcm_graph aggregation.*MaxAggregation"):
        conv(torch.randn(NODES, 4), EDGES)


def test_without_a_mask() -> None:
    conv = Neighbours(aggr=SumAggregation(4))
    with pytest.raises(ValueError, match="edge_mask"):
        explain_message(conv, torch.ones(8, 4), NODES)


def test_layers_that_add_self_loops() -> None:
    conv = GCNConv(4, 4, aggr=MaxAggregation(4), normalize=False)
    x = torch.randn(NODES, 4)
    conv_loops = GCNConv(4, 4, aggr=MaxAggregation(4))
    conv_loops.load_state_dict(conv.state_dict())
    expected = conv_loops(x, EDGES)
    masked(conv_loops, torch.ones(8))
    assert error(conv_loops(x, EDGES), expected) <= 1e-6


def test_gnn_explainer_finds_the_edge_that_matters() -> None:
    """The answer is node 1's minimum over neighbours; only the edge from node 3 decides it."""

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = Neighbours(aggr=MonoidAggregation(TopK(1, k=1, largest=False)))
            self.conv.explain_message = explain_message.__get__(self.conv, MessagePassing)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.conv(x, edge_index)

    x = torch.tensor([[1.0], [2.0], [3.0], [-9.0], [1.5], [0.0]])
    explainer = Explainer(
        Model(),
        GNNExplainer(epochs=30, lr=0.1),
        explanation_type="model",
        edge_mask_type="object",
        model_config=dict(mode="regression", task_level="node", return_type="raw"),
    )
    data = Data(x=x, edge_index=EDGES)
    mask = explainer(data.x, data.edge_index, index=1).edge_mask
    assert mask is not None and int(mask.argmax()) == 3
