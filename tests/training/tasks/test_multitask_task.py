"""The multitask benchmark: loss and metric against their definitions."""

import pytest
import torch
from torch import nn

from lcm_graph.aggregators import MixAggregation
from lcm_graph.datasets import multitask_graphs
from lcm_graph.training import MultitaskGNN, MultitaskTask, fit
from lcm_graph.training.mixes import plan_mixes

pytest.importorskip("networkx", reason="the extra 'graphs' is not installed")


@pytest.fixture(scope="module")
def graphs():
    return {
        "train": multitask_graphs([5, 6], 7, seed=0),
        "valid": multitask_graphs([6], 4, seed=1),
        "larger": multitask_graphs([8, 11], 3, seed=2),
    }


class Constant(nn.Module):
    """Answers the same for every node, and for every graph; remembers the sizes it saw."""

    def __init__(self, of_node, of_graph):
        super().__init__()
        self.of_node, self.of_graph = nn.Parameter(of_node), nn.Parameter(of_graph)
        self.seen = []

    def forward(self, batch):
        self.seen.append(batch.ptr.diff().tolist())
        return (
            self.of_node.expand(batch.num_nodes, 3),
            self.of_graph.expand(batch.num_graphs, 3),
        )


def test_errors_weigh_sizes_alike(graphs):
    task = MultitaskTask(graphs)
    model = Constant(torch.rand(3), torch.rand(3))
    node_scale = torch.cat([graph.y for graph in graphs["train"]]).amax(0)
    graph_scale = torch.cat([graph.graph_y for graph in graphs["train"]]).amax(0)
    by_size = []
    for size in (8, 11):
        same = [graph for graph in graphs["larger"] if graph.num_nodes == size]
        of_nodes = torch.cat([graph.y for graph in same]) / node_scale - model.of_node
        of_graphs = torch.cat([graph.graph_y for graph in same]) / graph_scale - model.of_graph
        by_size.append(torch.cat([of_nodes.square().mean(0), of_graphs.square().mean(0)]))
    expected = torch.stack(by_size).mean(0).detach()
    torch.testing.assert_close(task.errors(model, "larger"), expected)
    assert task.evaluate(model, "larger") == pytest.approx(float(expected.log10().mean()))


def test_constant_errors_are_those_of_the_mean(graphs):
    task = MultitaskTask(graphs)
    means = []
    for size in (5, 6):
        same = [graph for graph in graphs["train"] if graph.num_nodes == size]
        of_nodes = torch.cat([graph.y for graph in same]).mean(0) / task.node_scale
        of_graphs = torch.cat([graph.graph_y for graph in same]).mean(0) / task.graph_scale
        means.append(torch.cat([of_nodes, of_graphs]))
    mean = torch.stack(means).mean(0)
    model = Constant(mean[:3], mean[3:])
    torch.testing.assert_close(task.constant_errors("larger"), task.errors(model, "larger"))


def test_batches_are_of_one_size_and_an_epoch_sees_all(graphs):
    task = MultitaskTask(graphs, batch_size=3)
    assert task.steps_per_epoch == 6
    model = Constant(torch.zeros(3), torch.zeros(3))
    orders = []
    for seed in (0, 1, 0):
        values = []
        for batch in task.train_batches(torch.Generator().manual_seed(seed)):
            task.loss(model, batch)
            values += batch.x[:, 1].tolist()
        assert len(model.seen) == task.steps_per_epoch
        assert all(len(set(sizes)) == 1 and len(sizes) <= 3 for sizes in model.seen)
        assert sorted(size for sizes in model.seen for size in sizes) == [5] * 7 + [6] * 7
        model.seen.clear()
        orders.append(values)
    assert orders[0] == orders[2] != orders[1]


def test_loss_is_the_mean_of_six(graphs):
    task = MultitaskTask(graphs, batch_size=100)
    model = Constant(torch.rand(3), torch.rand(3))
    losses = [task.loss(model, batch).item() for batch in task.train_batches(torch.Generator())]
    expected = float(task.errors(model, "train").mean())
    assert sum(losses) / 2 == pytest.approx(expected, rel=1e-5)


def test_learns(graphs):
    """More than the constant, on what it has seen."""
    task = MultitaskTask(graphs, batch_size=7)
    torch.manual_seed(0)
    model = MultitaskGNN("lcm", hidden=16)
    before = float(task.errors(model, "train").mean())
    fit(model, task, epochs=80, lr=1e-2, schedule="one_cycle", keep="last", progress=False)
    after = float(task.errors(model, "train").mean())
    assert after < 0.5 * float(task.constant_errors("train").mean()) < before


def test_bad_arguments(graphs):
    with pytest.raises(ValueError, match=r"batch_size must be at least 1 \(got 0\)"):
        MultitaskTask(graphs, batch_size=0)
    with pytest.raises(ValueError, match=r"graphs must have some under 'valid' \(got none\)"):
        MultitaskTask({"train": graphs["train"]})
    twice = graphs | {"valid": [*graphs["valid"], graphs["train"][1]]}
    with pytest.raises(ValueError, match=r"in one split \(got one in 'train' and 'valid'\)"):
        MultitaskTask(twice)
    with pytest.raises(ValueError, match=r"split must be one of train, valid, larger \(got 'tes"):
        MultitaskTask(graphs).evaluate(nn.Module(), "test")


def test_labels_that_training_lacks(graphs):
    """Such as "connected" among trees: what is 0 throughout is not divided by it."""
    train = [graph.clone() for graph in graphs["train"]]
    for graph in train:
        graph.graph_y = graph.graph_y.clone()
        graph.graph_y[:, 0] = 0
    task = MultitaskTask(graphs | {"train": train})
    assert task.graph_scale[0] == 1 and (task.graph_scale[1:] > 1).any()
    assert task.errors(Constant(torch.zeros(3), torch.zeros(3)), "train").isfinite().all()


def test_a_mix_that_is_called_in_rounds_chooses_in_the_first_half(graphs):
    """The network uses its aggregation N/2 times in a step."""
    task = MultitaskTask({"train": graphs["train"][:2], "valid": graphs["valid"]})
    torch.manual_seed(0)
    model = MultitaskGNN("mix", hidden=4)
    assert plan_mixes(model, task, epochs=10) == "last"
    mixes = [module for module in model.modules() if isinstance(module, MixAggregation)]
    chosen = []
    fit(
        model,
        task,
        epochs=10,
        keep="last",
        progress=False,
        after_epoch=lambda _: chosen.append(all(bool(m.factor_choice.has_chosen) for m in mixes)),
    )
    assert chosen.index(True) in (3, 4, 5), chosen
