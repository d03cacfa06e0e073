"""The graph network for molecules: its layers, and independence of batch mates."""

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data

from lcm_graph.training import MOLECULE_CONVS, MoleculeGNN

pytest.importorskip("ogb", reason="the extra 'ogb' is not installed")


def molecule(num_nodes, seed):
    """A path of ``num_nodes`` atoms with random features, its edges in random order."""
    generator = torch.Generator().manual_seed(seed)
    path = torch.arange(num_nodes - 1)
    edge_index = torch.stack([torch.cat([path, path + 1]), torch.cat([path + 1, path])])
    order = torch.randperm(edge_index.size(1), generator=generator)
    bonds = torch.randint(0, 2, (num_nodes - 1, 3), generator=generator)
    return Data(
        x=torch.randint(0, 2, (num_nodes, 9), generator=generator),
        edge_index=edge_index[:, order],
        edge_attr=torch.cat([bonds, bonds])[order],
        y=torch.rand(1, 1, generator=generator),
    )


@pytest.mark.parametrize("conv", MOLECULE_CONVS)
@pytest.mark.parametrize("aggr", ["sum", "lcm", "topk", "gru", "pna", "mix"])
def test_molecule_gnn_depends_on_the_graph_alone(aggr, conv):
    graphs = [molecule(size, seed) for seed, size in enumerate([5, 1, 9, 2])]
    degree = torch.tensor([1, 6, 10])
    model = MoleculeGNN(aggr, hidden=8, num_layers=2, num_tasks=3, conv=conv, degree=degree).eval()
    together = model(Batch.from_data_list(graphs))
    assert together.shape == (4, 3)
    alone = torch.cat([model(Batch.from_data_list([graph])) for graph in graphs])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


def inbox(graph, message):
    """Sum of ``message(source, to, edge)`` over each node's incoming edges."""
    total = torch.zeros(graph.num_nodes, 4)
    for edge, (source, to) in enumerate(graph.edge_index.T.tolist()):
        total[to] += message(source, to, edge)
    return total


@pytest.fixture
def drawn():
    return molecule(4, 0), torch.randn(4, 4)


def test_gin_with_bonds(drawn):
    graph, x = drawn
    conv = MOLECULE_CONVS["gin"]("sum", 4).eval()
    bonds = conv.bonds(graph.edge_attr)
    expected = inbox(graph, lambda source, to, edge: (x[source] + bonds[edge]).relu())
    out = conv(x, graph.edge_index, graph.edge_attr)
    torch.testing.assert_close(out, conv.mlp((1 + conv.eps) * x + expected))


def test_gcn_with_bonds(drawn):
    graph, x = drawn
    conv = MOLECULE_CONVS["gcn"]("sum", 4)
    nn.init.normal_(conv.root)
    bonds, w = conv.bonds(graph.edge_attr), conv.linear(x)
    d = 1 + torch.bincount(graph.edge_index[1], minlength=4).float()
    expected = inbox(
        graph,
        lambda source, to, edge: (w[source] + bonds[edge]).relu() / (d[source] * d[to]).sqrt(),
    )
    expected = expected + (w + conv.root).relu() / d.unsqueeze(1)
    torch.testing.assert_close(conv(x, graph.edge_index, graph.edge_attr), expected)


def test_pna_with_bonds(drawn):
    graph, x = drawn
    conv = MOLECULE_CONVS["pna"]("sum", 4)
    bonds = conv.bonds(graph.edge_attr)
    expected = inbox(
        graph, lambda source, to, edge: conv.target(x[to]) + conv.source(x[source]) + bonds[edge]
    )
    out = conv(x, graph.edge_index, graph.edge_attr)
    torch.testing.assert_close(out, conv.after(torch.cat([x, expected], dim=1)))


@pytest.mark.parametrize("conv", MOLECULE_CONVS)
def test_all_parameters_get_gradients(conv):
    model = MoleculeGNN("lcm", hidden=8, num_layers=2, conv=conv)
    out = model(Batch.from_data_list([molecule(5, 0), molecule(3, 1)]))
    (out * torch.randn_like(out)).sum().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


def test_unknown_conv():
    with pytest.raises(ValueError, match=r"conv must be one of gin, gcn, pna \(got 'gat'\)"):
        MoleculeGNN("sum", conv="gat")


@pytest.mark.parametrize("aggr", ["sum", "mean", "max", "pna", "lcm"])
def test_answers_begin_at_one_scale(aggr):
    """However many nodes are added up."""
    torch.manual_seed(0)
    graphs = [molecule(size, size) for size in range(20, 60)]
    out = MoleculeGNN(aggr, hidden=16).train()(Batch.from_data_list(graphs))
    assert 0.2 <= out.std() <= 1.5 and out.abs().max() <= 5


@pytest.mark.parametrize("aggr", ["sum", "lcm"])
def test_one_node_training_batch(aggr):
    model = MoleculeGNN(aggr, hidden=8, num_layers=2).train()
    out = model(Batch.from_data_list([molecule(1, 0)]))
    assert out.shape == (1, 1) and torch.isfinite(out).all()
    out.sum().backward()


def test_readout_of_its_own():
    model = MoleculeGNN("sum", hidden=8, num_layers=1, readout="topk")
    assert isinstance(model.narrow, nn.Linear)
    assert model.narrow.in_features == model.readout.out_channels == 16
    assert model(Batch.from_data_list([molecule(3, 0)])).shape == (1, 1)
