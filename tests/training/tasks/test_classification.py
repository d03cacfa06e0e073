"""Classification of nodes, graphs and sets of tokens: loss and metric, and that it learns."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lcm_graph.datasets import load_debian_dependencies, load_debian_files, load_tu_graphs
from lcm_graph.training import (
    CheckpointError,
    GraphClassifier,
    GraphTask,
    NodeGNN,
    NodeTask,
    TokenSetClassifier,
    TokenSetTask,
    fit,
)
from tests.datasets.graphs.archives import write_dependencies, write_files, write_tu


class Table(nn.Module):
    """Answers with rows of a table: of nodes by their number, of graphs and sets by their order."""

    def __init__(self, rows, classes):
        super().__init__()
        self.rows = nn.Parameter(torch.randn(rows, classes))
        self.asked = 0

    def forward(self, batch, ptr=None):
        if hasattr(batch, "node_id"):
            return self.rows[batch.node_id]
        count = batch.num_graphs if ptr is None else len(ptr) - 1
        self.asked += count
        return self.rows[self.asked - count : self.asked]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_dependencies(folder)
    write_files(folder)
    write_tu(folder, "STARS")
    return folder


def split_of(nodes):
    return {"train": nodes[::2], "valid": nodes[1::4], "test": nodes[3::4]}


@pytest.fixture
def nodes(folder):
    data = load_debian_dependencies(folder)
    return data, split_of((data.y >= 0).nonzero().flatten())


@pytest.fixture
def graphs(folder):
    graphs = load_tu_graphs("STARS", folder)
    return {"train": graphs[:20], "valid": graphs[20:30], "test": graphs[30:]}


@pytest.fixture
def sets(folder):
    sets = load_debian_files(folder)
    return sets, split_of(torch.arange(len(sets.y)))


def test_nodes(nodes):
    data, split = nodes
    task = NodeTask(data, split)
    model = Table(60, 3)
    (batch,) = task.train_batches(torch.Generator())
    expected = F.cross_entropy(model.rows[split["train"]], data.y[split["train"]])
    torch.testing.assert_close(task.loss(model, batch), expected)
    right = model.rows[split["test"]].argmax(1) == data.y[split["test"]]
    assert task.evaluate(model, "test") == pytest.approx(right.double().mean().item())


def test_parts_are_subgraphs_of_all_nodes(nodes):
    data, split = nodes
    task = NodeTask(data, split, parts=4)
    assert task.steps_per_epoch == 4
    orders = []
    for seed in (0, 1, 0):
        batches = list(task.train_batches(torch.Generator().manual_seed(seed)))
        assert len(batches) == 4
        orders.append(torch.cat([batch.node_id for batch in batches]).tolist())
        assert sorted(orders[-1]) == list(range(60))
        pairs = set(map(tuple, data.edge_index.T.tolist()))
        for batch in batches:
            assert set(map(tuple, batch.node_id[batch.edge_index].T.tolist())) <= pairs
            assert torch.equal(batch.y, data.y[batch.node_id])
    assert orders[0] == orders[2] != orders[1]


def test_a_part_without_training_nodes_costs_nothing(nodes):
    data, split = nodes
    task = NodeTask(data, split)
    (batch,) = task.train_batches(torch.Generator())
    loss = task.loss(Table(60, 3), batch.subgraph(~batch.is_train))
    loss.backward()
    assert loss.item() == 0


def test_graphs(graphs):
    task = GraphTask(graphs, batch_size=8)
    assert task.steps_per_epoch == 3
    y = torch.cat([graph.y for graph in graphs["test"]])
    model = Table(10, 2)
    right = model.rows.argmax(1) == y
    assert task.evaluate(model, "test") == pytest.approx(right.double().mean().item())
    model = Table(20, 2)
    batches = list(task.train_batches(torch.Generator().manual_seed(0)))
    assert sorted(batch.num_graphs for batch in batches) == [4, 8, 8]
    expected = F.cross_entropy(model.rows[:8], batches[0].y)
    torch.testing.assert_close(task.loss(model, batches[0]), expected)


def test_token_sets(sets):
    sets, split = sets
    task = TokenSetTask(sets, split, batch_size=7)
    assert task.steps_per_epoch == 3
    model = Table(10, 3)
    right = model.rows.argmax(1) == sets.y[split["test"]]
    assert task.evaluate(model, "test") == pytest.approx(right.double().mean().item())
    chosen = torch.tensor([5, 0, 9])
    batch = task.batch(chosen)
    for place, number in enumerate(chosen.tolist()):
        mine = batch.tokens[batch.ptr[place] : batch.ptr[place + 1]]
        assert torch.equal(mine, sets.tokens[sets.ptr[number] : sets.ptr[number + 1]])
    model = Table(3, 3)
    expected = F.cross_entropy(model.rows, sets.y[chosen])
    torch.testing.assert_close(task.loss(model, batch), expected)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("aggr", ["mean", "lcm"])
def test_learns_nodes(nodes, aggr, parts):
    """A node's class is its neighbour."""
    data, split = nodes
    task = NodeTask(data, split, parts=parts)
    torch.manual_seed(0)
    model = NodeGNN(aggr, 60, 3, 3, hidden=16, num_layers=1, dropout=0.0)
    fit(model, task, epochs=60 // parts, lr=3e-2, keep="last", progress=False)
    assert task.evaluate(model, "train") > 0.9


@pytest.mark.parametrize("readout", ["sum", "gru", "lcm"])
def test_learns_graphs(graphs, readout):
    task = GraphTask(graphs, batch_size=10)
    torch.manual_seed(0)
    model = GraphClassifier(readout, 2, hidden=8, num_layers=2, dropout=0.0)
    fit(model, task, epochs=30, lr=1e-2, keep="last", progress=False)
    assert task.evaluate(model, "test") >= 0.9


@pytest.mark.parametrize("aggr", ["max", "lcm"])
def test_learns_token_sets(sets, aggr):
    """A set's class is one of its tokens."""
    sets, split = sets
    task = TokenSetTask(sets, split, batch_size=16)
    torch.manual_seed(0)
    model = TokenSetClassifier(aggr, sets.num_tokens, 3, hidden=16, dropout=0.0)
    fit(model, task, epochs=30, lr=2e-2, keep="last", progress=False)
    assert task.evaluate(model, "train") > 0.9


def test_data_that_was_trained_on_elsewhere_is_other_data(nodes, graphs, sets, tmp_path):
    """So that no checkpoint is gone on with on another fold, whose test set it has seen."""
    swapped = {"train": graphs["train"][:10] + graphs["valid"], "valid": graphs["train"][10:]}
    assert repr(GraphTask(graphs)) == repr(GraphTask(graphs))
    first = GraphTask({name: graphs[name] for name in ("train", "valid")}, batch_size=8)
    other = GraphTask(swapped, batch_size=8)
    model = GraphClassifier("sum", 2, hidden=4, num_layers=1)
    checkpoint = tmp_path / "model.pt"
    fit(model, first, epochs=1, checkpoint=checkpoint, progress=False)
    with pytest.raises(CheckpointError, match=r"cannot resume from .*: task was"):
        fit(model, other, epochs=2, checkpoint=checkpoint, resume=True, progress=False)
    for make, (data, split) in ((NodeTask, nodes), (TokenSetTask, sets)):
        turned = {name: part.roll(1) for name, part in split.items()}
        moved = split | {"valid": split["test"], "test": split["valid"]}
        assert repr(make(data, split)) == repr(make(data, split))
        if make is NodeTask:
            other = data.clone()
            other.edge_type = other.edge_type.roll(1)
            assert repr(make(other, split)) != repr(make(data, split))
        assert len({repr(make(data, each)) for each in (split, turned, moved)}) == 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("parts", [1, 3])
def test_nodes_on_cuda(nodes, parts):
    task = NodeTask(*nodes, parts=parts)
    model = NodeGNN("lcm", 60, 3, 3, hidden=4, num_layers=1)
    fit(model, task, epochs=3, progress=False, device="cuda")
    assert 0 <= task.evaluate(model, "test") <= 1


def test_the_graph_stays_where_it_is(nodes):
    """Whatever device the model is on; the next epoch's parts are drawn on this one."""
    data, split = nodes
    task = NodeTask(data, split, parts=2)
    meta = NodeGNN("mean", 60, 3, 3, hidden=4, num_layers=1).to("meta")
    with pytest.raises(Exception, match="meta"):
        task.evaluate(meta, "valid")
    for batch in task.train_batches(torch.Generator()):
        assert batch.edge_index.device.type == batch.y.device.type == "cpu"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"valid": torch.tensor([0, 1])}, "each of the {} once at most"),
        ({"test": torch.tensor([3, 3])}, r"once at most \(got 3 2 times\)"),
        ({"test": torch.tensor([60])}, r"indices of [46]0 {} \(got 0 to 60\)"),
        ({"test": torch.tensor([-1])}, r"indices of [46]0 {} \(got -1 to"),
    ],
)
def test_splits_are_disjoint(nodes, sets, change, message):
    for make, data, what in ((NodeTask, nodes[0], "nodes"), (TokenSetTask, sets[0], "sets")):
        split = {"train": torch.arange(2), "valid": torch.tensor([2]), **change}
        with pytest.raises(ValueError, match="split must hold .*" + message.format(what)):
            make(data, split)


def test_bad_arguments(nodes, graphs, sets):
    with pytest.raises(ValueError, match=r"parts must be at least 1 \(got 0\)"):
        NodeTask(*nodes, parts=0)
    with pytest.raises(ValueError, match=r"split must have nodes under 'valid' \(got none\)"):
        NodeTask(nodes[0], {"train": torch.arange(3)})
    with pytest.raises(ValueError, match=r"batch_size must be at least 1 \(got 0\)"):
        GraphTask(graphs, batch_size=0)
    with pytest.raises(ValueError, match=r"graphs must have some under 'train' \(got none\)"):
        GraphTask({"valid": graphs["valid"]})
    twice = graphs | {"valid": [*graphs["valid"], graphs["train"][1]]}
    with pytest.raises(ValueError, match=r"in one split \(got one in 'train' and 'valid'\)"):
        GraphTask(twice)
    with pytest.raises(ValueError, match=r"batch_size must be at least 1 \(got -1\)"):
        TokenSetTask(*sets, batch_size=-1)
    with pytest.raises(ValueError, match=r"split must have sets under 'test' \(got none\)"):
        TokenSetTask(sets[0], sets[1] | {"test": torch.arange(0)})


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (lambda y: y[:, None], r"y must be int64 \[60\] \(got torch.int64 \[60, 1\]\)"),
        (lambda y: y.float(), r"y must be int64 \[60\] \(got torch.float32"),
        (lambda y: torch.full_like(y, -1), r"from 0 up, for all of split\['train'\].*got -1"),
    ],
)
def test_labels_that_are_none(nodes, y, says):
    data, split = nodes
    data = data.clone()
    data.y = y(data.y)
    with pytest.raises(ValueError, match=says):
        NodeTask(data, split)


def test_evaluation_is_not_training(nodes, graphs, sets):
    """A model in training mode is evaluated as one that is not, and is in training again."""
    node_model = NodeGNN("sum", 60, 3, 3, hidden=4, num_layers=1)
    tasks = (
        (NodeTask(*nodes), nn.Sequential(node_model, nn.Dropout(0.9))),
        (GraphTask(graphs), GraphClassifier("sum", 2, hidden=4, num_layers=1)),
    )
    for task, model in tasks:
        expected = task.evaluate(model.eval(), "valid")
        for _ in range(3):
            assert task.evaluate(model.train(), "valid") == expected
            assert model.training
