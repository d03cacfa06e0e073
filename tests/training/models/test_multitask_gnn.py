"""The multitask network: its layer, its rounds, and independence of batch mates."""

import pytest
import torch
import torch.nn.functional as F
from torch_geometric.data import Batch

from lcm_graph.datasets import multitask_graphs
from lcm_graph.training import MultitaskGNN
from lcm_graph.training.models.multitask_gnn import Tower

pytest.importorskip("networkx", reason="the extra 'graphs' is not installed")


@pytest.fixture(scope="module")
def graphs():
    return multitask_graphs([9], 4, seed=0)


def test_tower_is_affine_around_the_aggregation(graphs):
    tower = Tower("max", 4, 3)
    graph = graphs[0]
    x = torch.randn(9, 4)
    before = torch.cat([tower.target.weight, tower.source.weight], dim=1)
    rows = []
    for node in range(9):
        neighbours = graph.edge_index[0, graph.edge_index[1] == node].tolist()
        messages = [F.linear(torch.cat([x[node], x[v]]), before) for v in neighbours]
        pooled = (torch.stack(messages) + tower.target.bias).amax(0)
        rows.append(tower.after(torch.cat([x[node], pooled])))
    torch.testing.assert_close(tower(x, graph.edge_index), torch.stack(rows))


@pytest.mark.parametrize("divide", [False, True])
@pytest.mark.parametrize("aggr", ["sum", "pna", "gru", "lcm", "mix"])
def test_depends_on_the_graph_alone(graphs, aggr, divide):
    degree = torch.tensor([0, 3, 2, 1])
    model = MultitaskGNN(aggr, hidden=8, towers=2, divide=divide, degree=degree).eval()
    nodes, answers = model(Batch.from_data_list(graphs))
    assert nodes.shape == (36, 3) and answers.shape == (4, 3)
    for place, graph in enumerate(graphs):
        alone = model(Batch.from_data_list([graph]))
        torch.testing.assert_close(alone[0], nodes[9 * place : 9 * place + 9], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(alone[1], answers[place : place + 1], atol=1e-5, rtol=1e-4)


def test_half_as_many_rounds_as_nodes(graphs):
    model = MultitaskGNN("sum", hidden=8)
    rounds = []
    model.update.register_forward_hook(lambda *_: rounds.append(1))
    for size, expected in ((4, 2), (9, 4), (16, 8)):
        model(Batch.from_data_list(multitask_graphs([size], 2, seed=1)))
        assert (len(rounds), model.readout.processing_steps) == (expected, size)
        rounds.clear()


def test_states_stay_within_bounds():
    """Whatever is found: each round's state is between the last one's and a number in [-1, 1]."""
    model = MultitaskGNN("sum", hidden=8)
    with torch.no_grad():
        model.mix.weight *= 100
    states = []
    model.update.register_forward_hook(lambda _, __, out: states.append(out))
    batch = Batch.from_data_list(multitask_graphs([24], 2, seed=1))
    model(batch)
    bound = model.encode(batch.x).abs().max().clamp(min=1)
    assert len(states) == 12 and all(state.abs().max() <= bound for state in states)


@pytest.mark.parametrize("aggr", ["lcm", "mix"])
def test_gradients_reach_all_parameters(graphs, aggr):
    model = MultitaskGNN(aggr, hidden=8, towers=2)
    nodes, answers = model(Batch.from_data_list(graphs))
    (nodes * torch.randn_like(nodes)).sum().backward(retain_graph=True)
    (answers * torch.randn_like(answers)).sum().backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert without == []


def test_bad_arguments(graphs):
    with pytest.raises(ValueError, match=r"hidden must be a multiple of towers \(got hidden=8, "):
        MultitaskGNN("sum", hidden=8, towers=3)
    batch = Batch.from_data_list([*graphs, *multitask_graphs([10], 1, seed=0)])
    with pytest.raises(ValueError, match=r"graphs of one size.*got sizes \[9, 10\]"):
        MultitaskGNN("sum")(batch)
