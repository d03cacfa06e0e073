"""The models: shapes, the paper's embedding, and independence of batch mates."""

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data

from lcm_graph.aggregators import AGGREGATIONS, aggregation_by_name
from lcm_graph.datasets import IntegerSets
from lcm_graph.training import BitEmbedding, MoleculeConv, MoleculeGNN, SetModel

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


def test_embedding_is_the_paper_s():
    embed = BitEmbedding(4, 3)
    x = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    for row, bits in zip(embed(x), x, strict=True):
        expected = sum(
            one * b + zero * (1 - b)
            for one, zero, b in zip(embed.one, embed.zero, bits, strict=True)
        )
        torch.testing.assert_close(row, expected)


@pytest.mark.parametrize("aggr", AGGREGATIONS)
def test_set_model(aggr):
    model = SetModel(aggr, bits=5, hidden=8).eval()
    (batch,) = IntegerSets("second_minimum", 6, 2, 7, bits=5).batches(6)
    out = model(batch.x, batch.ptr)
    assert out.shape == (6, 5)
    out.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    alone = [
        model(batch.x[a:b], torch.tensor([0, b - a]))
        for a, b in zip(batch.ptr[:-1].tolist(), batch.ptr[1:].tolist(), strict=True)
    ]
    torch.testing.assert_close(torch.cat(alone), out, rtol=1e-4, atol=1e-5)


def test_set_model_takes_an_instance():
    aggr = aggregation_by_name("topk", 8, 8)
    model = SetModel(aggr, hidden=8)
    assert model.aggr is aggr and isinstance(model.decode[0], nn.Linear)
    assert model.decode[0].in_features == aggr.out_channels


def test_set_model_answers_with_other_than_bits():
    model = SetModel("sum", bits=3, hidden=8, num_outputs=10)
    assert model(torch.ones(4, 3), torch.tensor([0, 1, 4])).shape == (2, 10)
    assert SetModel("sum", bits=3, hidden=8)(torch.ones(1, 3), torch.tensor([0, 1])).shape == (1, 3)


def test_set_model_without_encoder_takes_bits():
    model = SetModel("lcm", bits=3, hidden=8, encode=False)
    assert model.aggr.in_channels == 3
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"aggr", "decode"}
    x, ptr = torch.tensor([[1.0, 0, 1], [0, 1, 1], [0, 0, 1]]), torch.tensor([0, 2, 3])
    torch.testing.assert_close(model(x, ptr), model.decode(model.aggr(x, ptr=ptr)))


def test_unknown_aggregation():
    with pytest.raises(ValueError, match="nonsense"):
        SetModel("nonsense")
    with pytest.raises(ValueError, match="nonsense"):
        MoleculeGNN("nonsense")


@pytest.mark.parametrize("aggr", ["sum", "lcm", "topk", "gru", "pna"])
def test_molecule_gnn_depends_on_the_graph_alone(aggr):
    graphs = [molecule(size, seed) for seed, size in enumerate([5, 1, 9, 2])]
    model = MoleculeGNN(aggr, hidden=8, num_layers=2, num_tasks=3).eval()
    together = model(Batch.from_data_list(graphs))
    assert together.shape == (4, 3)
    alone = torch.cat([model(Batch.from_data_list([graph])) for graph in graphs])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


def test_conv_is_gin_with_bonds():
    conv = MoleculeConv("sum", 4).eval()
    graph = molecule(4, 0)
    x = torch.randn(4, 4)
    out = conv(x, graph.edge_index, graph.edge_attr)
    inbox = torch.zeros(4, 4)
    bonds = conv.bonds(graph.edge_attr)
    for (source, to), bond in zip(graph.edge_index.T.tolist(), bonds, strict=True):
        inbox[to] += (x[source] + bond).relu()
    torch.testing.assert_close(out, conv.mlp((1 + conv.eps) * x + inbox))


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
