"""PyG's layers, containers, loaders and registers with our aggregators in them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader, NeighborLoader, RandomNodeLoader
from torch_geometric.nn import (
    GATConv,
    GATv2Conv,
    GCNConv,
    GINConv,
    PNAConv,
    SAGEConv,
    SuperGATConv,
    TransformerConv,
)
from torch_geometric.nn.aggr import Aggregation, MultiAggregation
from torch_geometric.typing import WITH_PYG_LIB, WITH_TORCH_SPARSE
from torch_geometric.utils import k_hop_subgraph

from lcm_graph.aggregators import (
    LCMAggregation,
    MixAggregation,
    MonoidAggregation,
    RecurrentAggregation,
    aggregation_by_name,
)
from lcm_graph.monoids import Product, Sum, TopK
from tests.references import error

N, E, D = 12, 40, 8
EDGES = torch.stack([torch.arange(E) % N, torch.arange(E) * 7 % (N - 1)])  # N - 1 gets nothing
MAKERS: dict[str, Callable[[], Aggregation]] = {
    "lcm": lambda: LCMAggregation(D, D),
    "gru": lambda: RecurrentAggregation(D, D),
    "topk": lambda: MonoidAggregation(TopK(D, k=1)),
    "mix": lambda: MixAggregation(D, hidden=4, learned=4, clocks=3),
}


@pytest.fixture(params=MAKERS)
def aggregation(request: pytest.FixtureRequest) -> Aggregation:
    return MAKERS[request.param]()


def one_step(model: nn.Module, *inputs: Any) -> None:
    """A training step changes every parameter's gradient from none to some."""
    out = model.train()(*inputs)
    (out * torch.randn_like(out)).sum().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []
    torch.optim.Adam(model.parameters()).step()


class First(nn.Module):
    """Of what a model answers."""

    def forward(self, answers: tuple[Tensor, ...]) -> Tensor:
        return answers[0]


def test_gin_and_gat(aggregation: Aggregation) -> None:
    width = aggregation.out_channels or D
    x = torch.randn(N, D)
    after = nn.Linear(width, D)
    if width == D:  # GIN adds the node's own state
        gin = GINConv(after, aggr=aggregation)
        expected = after(aggregation.eval()(x[EDGES[0]], EDGES[1], dim_size=N) + x)
        assert error(gin.eval()(x, EDGES), expected) <= 1e-5
        one_step(gin, x, EDGES)
    gat = GATConv(D, D, heads=2, concat=False, bias=False, add_self_loops=False, aggr=aggregation)
    out, (edges, attention) = gat.eval()(x, EDGES, return_attention_weights=True)
    messages = attention.unsqueeze(-1) * gat.lin(x).view(N, 2, D)[edges[0]]
    heads = [aggregation(messages[:, head], edges[1], dim_size=N) for head in range(2)]
    assert error(out, torch.stack(heads, dim=1).mean(1)) <= 1e-5
    one_step(gat, x, EDGES)


@pytest.mark.parametrize("layer", [GATConv, GATv2Conv, SuperGATConv, TransformerConv])
@pytest.mark.parametrize("name", ["sum", "lcm", "gru"])
def test_heads_side_by_side(layer: type[nn.Module], name: str) -> None:
    """PyG views what an aggregation gives of ``[E, heads, D]``; a head's answer is its own."""
    torch.manual_seed(0)
    aggregation = aggregation_by_name(name, 3, 3)
    conv = layer(D, 3, heads=4, aggr=aggregation).eval()
    x = torch.randn(N, D)
    out = conv(x, EDGES)
    assert out.shape == (N, 4 * 3)
    kept: list[Tensor] = []
    aggregation.register_forward_pre_hook(
        lambda module, args, kwargs: kept.append(args[0]), with_kwargs=True
    )
    aggregation.register_forward_hook(lambda module, args, found: kept.append(found))
    conv(x, EDGES)
    messages, found = kept
    index = EDGES[1]
    if messages.size(0) > E:  # with loops
        index = torch.cat([EDGES[1][EDGES[0] != EDGES[1]], torch.arange(N)])
    for head in range(4):
        alone = aggregation(messages[:, head], index, dim_size=N)
        assert error(found[:, head], alone) <= 1e-5
    assert found.is_contiguous()


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta:UserWarning")
@pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled:UserWarning")
@pytest.mark.parametrize("layout", [torch.sparse_csr, torch.sparse_coo], ids=str)
def test_sparse_adjacency(aggregation: Aggregation, layout: torch.layout) -> None:
    width = aggregation.out_channels or D
    conv = SAGEConv((width, D), D, aggr=aggregation).eval()
    distinct = EDGES.unique(dim=1)
    size = (N, N)
    adjacency = torch.sparse_coo_tensor(distinct.flip(0), torch.ones(distinct.size(1)), size)
    adjacency = adjacency.coalesce()
    x = torch.randn(N, D)
    order = adjacency.indices().flip(0)  # by target, then by source
    given = adjacency.to_sparse(layout=layout)
    assert error(conv((x, x), given), conv((x, x), order)) <= 1e-5


@pytest.mark.parametrize("mode", ["cat", "sum", "proj"])
def test_multi_aggregation(mode: str) -> None:
    kwargs = {"in_channels": D, "out_channels": D} if mode == "proj" else None
    several = [LCMAggregation(D, D), "mean", MonoidAggregation(TopK(D, k=1)), "max"]
    multi = MultiAggregation(several, mode=mode, mode_kwargs=kwargs)
    conv = SAGEConv(D, D, aggr=multi)
    x = torch.randn(N, D)
    assert conv(x, EDGES).shape == (N, D)
    one_step(conv, x, EDGES)


def test_pna_conv_with_a_learned_aggregator() -> None:
    degree = torch.bincount(torch.bincount(EDGES[1], minlength=N))
    conv = PNAConv(D, D, [LCMAggregation(D, D), "max"], ["identity", "amplification"], degree)
    x = torch.randn(N, D)
    assert conv(x, EDGES).shape == (N, D)
    one_step(conv, x, EDGES)


class Network(nn.Module):
    """Two layers and a readout."""

    def __init__(self) -> None:
        super().__init__()
        self.first = SAGEConv(D, D, aggr=LCMAggregation(D, D))
        self.second = GCNConv(D, D, aggr=MonoidAggregation(Sum(D)))
        self.readout = MonoidAggregation(Product(Sum(D), TopK(D, k=2)))

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        x = self.second(self.first(x, edge_index).relu(), edge_index)
        out: Tensor = self.readout(x, batch)
        return out


def test_data_loader() -> None:
    graphs = [
        Data(x=torch.randn(n, D), edge_index=torch.randint(0, n, (2, 3 * n))) for n in (1, 5, 9, 2)
    ]
    network = Network().eval()
    alone = []
    for graph in graphs:
        batch = Batch.from_data_list([graph])
        alone.append(network(batch.x, batch.edge_index, batch.batch))
    for size in (1, 3, 4):
        loader = DataLoader(graphs, batch_size=size)
        together = [network(batch.x, batch.edge_index, batch.batch) for batch in loader]
        assert error(torch.cat(together), torch.cat(alone)) <= 1e-5


def test_random_node_loader() -> None:
    """Every node once; a part's answers are those of the edges within it, listed one by one."""
    data = Data(x=torch.randn(N, D), edge_index=EDGES, n_id=torch.arange(N))
    aggr = LCMAggregation(D, D, order="canonical")
    conv = SAGEConv(D, D, aggr=aggr).eval()
    seen: list[int] = []
    for part in RandomNodeLoader(data, num_parts=3):
        mine = part.n_id.tolist()
        found = conv(part.x, part.edge_index)
        for place, node in enumerate(mine):
            sources = EDGES[0, (EDGES[1] == node) & torch.isin(EDGES[0], part.n_id)]
            pooled = aggr(data.x[sources], torch.zeros_like(sources), dim_size=1)
            expected = conv.lin_l(pooled)[0] + conv.lin_r(data.x[node])
            assert error(found[place], expected) <= 1e-5
        seen += mine
    assert sorted(seen) == list(range(N))


@pytest.mark.skipif(
    not (WITH_PYG_LIB or WITH_TORCH_SPARSE), reason="neither pyg-lib nor torch-sparse is installed"
)
def test_neighbor_loader() -> None:
    """All neighbours sampled: the seeds' answers are those of the whole graph."""
    data = Data(x=torch.randn(N, D), edge_index=EDGES)
    conv = SAGEConv(D, D, aggr=LCMAggregation(D, D, order="canonical")).eval()
    expected = conv(data.x, data.edge_index)
    for part in NeighborLoader(data, num_neighbors=[-1], batch_size=5):
        found = conv(part.x, part.edge_index)[: part.batch_size]
        assert error(found, expected[part.n_id[: part.batch_size]]) <= 1e-5


def test_sampled_neighbourhoods() -> None:
    """Two layers on all that is two hops away: the seeds' answers are those of the whole graph."""
    x = torch.randn(N, D)
    first, second = (
        SAGEConv(D, D, aggr=LCMAggregation(D, D, order="canonical")).eval() for _ in range(2)
    )
    expected = second(first(x, EDGES), EDGES)
    for seeds in torch.arange(N).split(5):
        nodes, edges, places, _ = k_hop_subgraph(seeds, 2, EDGES, relabel_nodes=True)
        found = second(first(x[nodes], edges), edges)[places]
        assert error(found, expected[seeds]) <= 1e-5


def test_graphgym() -> None:
    """A pooling is a function; a learned readout is a head of its own; GraphGym builds models with
    either."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what its optional packages warn of
        register = pytest.importorskip("torch_geometric.graphgym.register")
        from torch_geometric.graphgym.config import cfg, set_cfg
        from torch_geometric.graphgym.models.gnn import GNN
    top = MonoidAggregation(TopK(D, k=1))

    @register.register_pooling("lcm_graph_topk")
    def pool(x: Tensor, batch: Tensor, size: int | None = None) -> Tensor:
        out: Tensor = top(x, batch, dim_size=size)
        return out

    @register.register_head("lcm_graph_head")
    class Head(nn.Module):
        def __init__(self, dim_in: int, dim_out: int) -> None:
            super().__init__()
            self.readout = LCMAggregation(dim_in, dim_in)
            self.linear = nn.Linear(dim_in, dim_out)

        def forward(self, batch: Data) -> tuple[Tensor, Tensor | None]:
            return self.linear(self.readout(batch.x, batch.batch)), batch.y

    try:
        graphs = [
            Data(x=torch.randn(n, 3), edge_index=torch.randint(0, n, (2, 3 * n)), y=torch.ones(1))
            for n in (3, 5)
        ]
        for head, pooling in (("graph", "lcm_graph_topk"), ("lcm_graph_head", "add")):
            set_cfg(cfg)
            cfg.gnn.head, cfg.model.graph_pooling, cfg.gnn.dim_inner = head, pooling, D
            model = GNN(dim_in=3, dim_out=4).eval()
            out, y = model(Batch.from_data_list(graphs))
            assert out.shape == (2, 4) and torch.equal(y, torch.ones(2))
            (alone, _) = model(Batch.from_data_list(graphs[1:]))
            assert error(out[1:], alone) <= 1e-5
            one_step(nn.Sequential(model, First()), Batch.from_data_list(graphs))
    finally:
        set_cfg(cfg)
        del register.pooling_dict["lcm_graph_topk"], register.head_dict["lcm_graph_head"]
