"""Layers that read node features in place answer as those that write messages."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch_geometric import EdgeIndex
from torch_geometric.nn import GATConv, GINConv, SAGEConv, SumAggregation
from torch_geometric.utils import to_torch_csr_tensor

from lcm_graph import (
    FoldPlan,
    LCMAggregation,
    MonoidAggregation,
    RecurrentAggregation,
    segment_reduce,
)
from lcm_graph.aggregators import FoldAggregation, FusedMessages
from lcm_graph.kernels.binary_gru import kernel
from lcm_graph.kernels.segment import closed_forms
from lcm_graph.monoids import BinaryMLP, Max, Moments, Monoid, Product, Softmax, Sum, TopK
from lcm_graph.reduce import tree
from tests.references import error, gradients


class FusedSAGEConv(FusedMessages, SAGEConv):
    pass


class FusedGINConv(FusedMessages, GINConv):
    pass


MONOIDS: dict[str, Monoid] = {
    "product": Product(Sum(5), TopK(5, k=2), Max(5)),
    "moments": Moments(5),
    "softmax": Softmax(5, learn=True),
    "mlp": BinaryMLP(5),
}


def aggregation(name: str) -> FoldAggregation:
    if name == "recurrent":
        return RecurrentAggregation(5, 5)
    if name in MONOIDS:
        return MonoidAggregation(deepcopy(MONOIDS[name]))
    keywords: dict[str, dict[str, Any]] = {
        "lcm": {},
        "plain": {"project": False},
        "canonical": {"order": "canonical"},
        "cached": {"cached": True},
    }
    return LCMAggregation(5, 5, **keywords[name])


def graph() -> Tensor:
    """A hub, nodes without neighbours, repeated edges, in no order."""
    into_hub = torch.tensor([[*range(12)] * 3, [7] * 36])
    edges = torch.cat([torch.randint(0, 12, (2, 40)), into_hub], dim=1)
    return edges[:, torch.randperm(edges.size(1))]


@pytest.mark.parametrize("lead", [(), (2,)], ids=["rows", "batch"])
@pytest.mark.parametrize("name", ["lcm", "plain", "canonical", "cached", "recurrent", *MONOIDS])
def test_source_is_indexing(name: str, lead: tuple[int, ...]) -> None:
    aggr = aggregation(name).double().eval()
    source, index = graph()
    x = torch.randn(*lead, 12, 5, dtype=torch.float64, requires_grad=True)
    inputs = [x, *aggr.parameters()]
    for _ in range(2):
        expected = aggr(x.index_select(-2, source), index, dim_size=14)
        out = aggr(x, index, dim_size=14, source=source)
        assert error(out, expected) <= 1e-12
        for got, wanted in zip(gradients(out, inputs), gradients(expected, inputs), strict=True):
            assert error(got, wanted) <= 1e-10


def test_ordered_at_random_and_weighed() -> None:
    source, index = graph()
    x = torch.randn(12, 5)
    aggr = LCMAggregation(5, 5, order="random")
    torch.manual_seed(1)
    expected = aggr(x[source], index)
    torch.manual_seed(1)
    assert error(aggr(x, index, source=source), expected) <= 1e-5
    weight = torch.rand(len(source)).round()
    aggr.eval()
    expected = aggr(x[source], index, weight=weight)
    assert error(aggr(x, index, weight=weight, source=source), expected) <= 1e-5


def test_cached_plan_notices_other_sources() -> None:
    source, index = graph()
    x = torch.randn(12, 5)
    aggr = LCMAggregation(5, 5, cached=True)
    aggr(x, index, source=source)
    other = source.flip(0)
    assert error(aggr(x, index, source=other), aggr(x[other], index)) <= 1e-5


def test_plan_does_not_change_with_the_source() -> None:
    source, index = graph()
    x = torch.randn(12, 5)
    monoid = Sum(5)
    plan = FoldPlan.from_index(index, 12).gather(source, 12)
    expected = segment_reduce(monoid, x[source], index, dim_size=12)
    source.zero_()
    assert error(segment_reduce(monoid, x, plan=plan), expected) <= 1e-6


@pytest.mark.parametrize("name", ["lcm", *MONOIDS])
def test_buffers_filled_anew_before_the_backward_pass(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closed_forms, "CPU_ABOVE", 0)
    aggr = aggregation(name).double()
    source = torch.randint(0, 12, (60,))
    ptr = torch.tensor([0, 0, 7, 30, 60])
    x = torch.randn(12, 5, dtype=torch.float64, requires_grad=True)
    (wanted,) = torch.autograd.grad(aggr(x[source], ptr=ptr).square().sum(), x)
    out = aggr(x, ptr=ptr, source=source)
    source.fill_(10_000)
    ptr.fill_(0)
    (got,) = torch.autograd.grad(out.square().sum(), x)
    assert error(got, wanted) <= 1e-10


def test_plans_made_in_inference_mode_serve_in_training() -> None:
    with torch.inference_mode():
        source, index = graph()
        plan = FoldPlan.from_index(index, 12).gather(source, 12)
    for monoid in (LCMAggregation(5, 5).monoid, Sum(5)):
        x = torch.randn(12, 5, requires_grad=True)
        monoid.lower(segment_reduce(monoid, monoid.lift(x), plan=plan)).sum().backward()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (torch.tensor([0, 1, 2, 9]), r"'source' must name one of the 3 rows, 0 to 2 \(got 9\)"),
        (torch.tensor([0, -1, 2, 0]), r"'source' must name one of the 3 rows, 0 to 2 \(got -1\)"),
        (torch.tensor([0.0, 1, 2, 0]), r"'source' must hold integers \(got torch.float32\)"),
        (torch.tensor([[0, 1, 2, 0]]), r"'source' must be one-dimensional \(got shape \(1, 4\)\)"),
        (
            torch.tensor([0, 1, 2]),
            r"'source' must have one entry for each of the 4 elements \(got 3",
        ),
        ([0, 1, 2, 0], r"'source' must be a tensor \(got list\)"),
    ],
)
@pytest.mark.parametrize("name", ["lcm", "recurrent"])
def test_bad_sources(name: str, source: Any, message: str) -> None:
    index = torch.tensor([0, 0, 1, 1])
    with pytest.raises(ValueError, match=message):
        aggregation(name)(torch.randn(3, 5), index, source=source)
    with pytest.raises(ValueError, match=message):
        FoldPlan.from_index(index).gather(source, 3)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta:UserWarning")
@pytest.mark.parametrize("form", ["edge_index", "EdgeIndex", "sparse"])
@pytest.mark.parametrize("flow", ["source_to_target", "target_to_source"])
@pytest.mark.parametrize("layer", [SAGEConv, GINConv])
def test_layers_agree(layer: Any, flow: str, form: str) -> None:
    if form == "sparse" and flow == "target_to_source":
        pytest.skip("PyG has no such sparse layers")
    aggr = LCMAggregation(5, 5)
    if layer is SAGEConv:
        arguments: tuple[Any, ...] = (5, 5)
        fused: Any = FusedSAGEConv
    else:
        arguments = (nn.Linear(5, 5),)
        fused = FusedGINConv
    plain = layer(*arguments, aggr=aggr, flow=flow)
    quick = fused(*arguments, aggr=LCMAggregation(5, 5), flow=flow)
    quick.load_state_dict(plain.state_dict())
    edges = graph()
    given: Any = edges
    if form == "EdgeIndex":
        given = EdgeIndex(edges, sparse_size=(12, 12)).sort_by("col")[0]
    elif form == "sparse":
        with torch.sparse.check_sparse_tensor_invariants(True):
            given = to_torch_csr_tensor(edges.unique(dim=1).flip(0), size=(12, 12))
    x = torch.randn(12, 5)
    expected = plain(x, given)
    assert error(quick(x, given), expected) <= 1e-5


def test_bipartite_layers_and_messages_that_are_asked_for() -> None:
    aggr = LCMAggregation(5, 5)
    plain = SAGEConv((5, 5), 5, aggr=aggr)
    quick = FusedSAGEConv((5, 5), 5, aggr=aggr)
    quick.load_state_dict(plain.state_dict())
    edges = torch.stack([torch.randint(0, 9, (30,)), torch.randint(0, 4, (30,))])
    x = (torch.randn(9, 5), torch.randn(4, 5))
    assert error(quick(x, edges), plain(x, edges)) <= 1e-5
    seen: list[Tensor] = []
    quick.register_message_forward_hook(lambda layer, inputs, out: seen.append(out))
    assert error(quick(x, edges), plain(x, edges)) <= 1e-5
    assert len(seen) == 1


class Rows(TorchDispatchMode):
    """Notes how many rows of 5 floating-point features operations answer with."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.shape[1:] == (5,):
                self.seen.add(len(leaf))
        return out


@pytest.mark.parametrize("recompute", [True, False])
@pytest.mark.parametrize("name", ["lcm", "mlp", "topk"])
def test_no_messages_are_written(
    name: str, recompute: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of as many rows as there are edges, nothing is ever made."""
    monkeypatch.setattr(kernel, "KEEP_BELOW", 0)
    monkeypatch.setattr(tree, "RECOMPUTE_ABOVE", 0)
    aggr = MonoidAggregation(TopK(5, k=1)) if name == "topk" else aggregation(name)
    layer = FusedSAGEConv(5, 5, aggr=aggr)
    edges = graph()
    for fused in (True, False):
        if not fused:
            layer.register_message_forward_hook(lambda *_: None)
        with Rows() as rows:
            layer(torch.randn(12, 5, requires_grad=True), edges).sum().backward()
        assert (edges.size(1) in rows.seen) == (not fused)


def test_an_aggregate_of_its_own_is_called() -> None:
    class Doubled(SAGEConv):
        def aggregate(
            self,
            inputs: Tensor,
            index: Tensor,
            ptr: Tensor | None = None,
            dim_size: int | None = None,
        ) -> Tensor:
            return 2 * super().aggregate(inputs, index, ptr, dim_size)

    class FusedDoubled(FusedMessages, Doubled):
        pass

    plain, quick = (layer(5, 5, aggr=LCMAggregation(5, 5)) for layer in (Doubled, FusedDoubled))
    quick.load_state_dict(plain.state_dict())
    x, edges = torch.randn(12, 5), graph()
    assert error(quick(x, edges), plain(x, edges)) <= 1e-6


def test_source_without_sets_is_one_set() -> None:
    source, _ = graph()
    x = torch.randn(12, 5)
    for name in ("lcm", "recurrent", "softmax"):
        aggr = aggregation(name)
        assert error(aggr(x, source=source), aggr(x[source])) <= 1e-5


def test_layers_that_it_is_not_for() -> None:
    class FusedGATConv(FusedMessages, GATConv):
        pass

    with pytest.raises(TypeError, match=r"whose 'message' takes 'x_j' and returns it \(got"):
        FusedGATConv(5, 5)
    layer = FusedSAGEConv(5, 5, aggr=SumAggregation())
    plain = SAGEConv(5, 5, aggr=SumAggregation())
    plain.load_state_dict(layer.state_dict())
    edges, x = graph(), torch.randn(12, 5)
    assert error(layer(x, edges), plain(x, edges)) <= 1e-6
