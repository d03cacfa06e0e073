"""Molecules: loss and metric against their definitions."""

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lcm_graph.datasets import load_molecules
from lcm_graph.training import (
    CheckpointError,
    MoleculeGNN,
    MoleculeTask,
    fit,
)

pytest.importorskip("ogb", reason="the extra 'ogb' is not installed")


@pytest.fixture(scope="module")
def freesolv():
    return load_molecules("ogbg-molfreesolv")


class Echo(nn.Module):
    """Predicts the first atom feature's mean; remembers how many graphs it saw."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.seen = 0

    def forward(self, batch):
        self.seen += batch.num_graphs
        sizes = batch.ptr[1:] - batch.ptr[:-1]
        sums = torch.zeros(batch.num_graphs).index_add(0, batch.batch, batch.x[:, 0].float())
        return (self.scale * sums / sizes)[:, None]


def test_targets_are_standardised_on_train(freesolv):
    task = MoleculeTask(freesolv, batch_size=32)
    y = freesolv.targets("train")
    torch.testing.assert_close(task.mean, y.mean(0))
    torch.testing.assert_close(task.std, y.std(0, unbiased=False))
    batch = next(iter(task.train_batches(torch.Generator().manual_seed(0))))
    model = Echo()
    residual = model(batch) - (batch.y - task.mean) / task.std
    torch.testing.assert_close(task.loss(model, batch), residual.square().mean())
    assert task.steps_per_epoch == 17 and not task.maximize


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_every_graph_is_evaluated(freesolv, split):
    task, model = MoleculeTask(freesolv), Echo().train()
    score = task.evaluate(model, split)
    assert model.seen == len(freesolv.split[split]) and model.training
    predicted = torch.stack([g.x[:, 0].float().mean() for g in freesolv.subset(split)])[:, None]
    error = predicted * task.std + task.mean - freesolv.targets(split)
    assert score == pytest.approx(error.square().mean().sqrt().item(), rel=1e-5)


def test_one_node_test_graphs_are_kept(freesolv):
    single = [i for i, graph in enumerate(freesolv.dataset) if graph.num_nodes == 1]
    only = dataclasses.replace(freesolv, split=freesolv.split | {"test": torch.tensor(single[:1])})
    model = MoleculeGNN("lcm", hidden=8, num_layers=1)
    assert MoleculeTask(only).evaluate(model, "test") >= 0


def classification(freesolv, missing):
    """FreeSolv relabelled: two binary tasks, some labels missing, scored as OGB's molclintox."""
    from ogb.graphproppred import Evaluator

    dataset = copy.deepcopy(freesolv.dataset)
    y = (dataset._data.y > -4).float().repeat(1, 2)
    y[::3, 1] = missing
    dataset._data.y, dataset._data_list = y, None
    return dataclasses.replace(
        freesolv,
        dataset=dataset,
        evaluator=Evaluator("ogbg-molclintox"),
        metric="rocauc",
        maximize=True,
        num_tasks=2,
        task_type="binary classification",
    )


def test_missing_labels_are_left_out(freesolv):
    task = MoleculeTask(classification(freesolv, float("nan")), batch_size=16)
    batch = next(iter(task.train_batches(torch.Generator().manual_seed(0))))
    assert torch.isnan(batch.y).any()
    model = MoleculeGNN("sum", hidden=8, num_layers=1, num_tasks=2).eval()
    present = batch.y == batch.y
    expected = F.binary_cross_entropy_with_logits(model(batch)[present], batch.y[present])
    loss = task.loss(model, batch)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert 0 <= task.evaluate(model, "valid") <= 1

    batch.y = torch.full_like(batch.y, float("nan"))
    assert task.loss(model, batch).item() == 0


def test_learns_molecules(freesolv):
    task = MoleculeTask(freesolv, batch_size=64)
    model = MoleculeGNN("sum", hidden=16, num_layers=2)
    result = fit(model, task, epochs=4, lr=0.01)
    assert result.history[-1].loss < 0.7 * result.history[0].loss
    assert task.evaluate(model, "valid") == result.best_valid


def test_bad_arguments(freesolv):
    with pytest.raises(ValueError, match=r"batch_size must be at least 1 \(got 0\)"):
        MoleculeTask(freesolv, batch_size=0)
    with pytest.raises(ValueError, match=r"split must be one of train, valid, test"):
        MoleculeTask(freesolv).evaluate(Echo(), "dev")


def test_other_splits_are_other_data(freesolv, tmp_path):
    """No checkpoint is gone on with that has seen what is now tested."""
    moved = freesolv.split | {"valid": freesolv.split["test"], "test": freesolv.split["valid"]}
    other = dataclasses.replace(freesolv, split=moved)
    assert repr(MoleculeTask(freesolv)) == repr(MoleculeTask(freesolv))
    model = MoleculeGNN("sum", 4, 1)
    keep = {"checkpoint": tmp_path / "model.pt", "progress": False}
    fit(model, MoleculeTask(freesolv, batch_size=512), epochs=1, **keep)
    with pytest.raises(CheckpointError, match=r"cannot resume from .*: task was"):
        fit(model, MoleculeTask(other, batch_size=512), epochs=2, resume=True, **keep)


def test_a_task_without_labels_in_training(freesolv):
    dataset = copy.deepcopy(freesolv.dataset)
    rows = freesolv.split["train"]
    dataset._data.y = dataset._data.y.repeat(1, 2)
    dataset._data.y[rows, 1] = torch.nan
    dataset._data_list = None  # the graphs that were taken apart before
    task = MoleculeTask(dataclasses.replace(freesolv, dataset=dataset, num_tasks=2))
    assert task.mean[1] == 0 and task.std[1] == 1 and task.mean[0] != 0


def test_an_evaluator_that_refuses_is_told_with_the_split(freesolv, monkeypatch):
    def refuse(self, truth, predicted):
        raise RuntimeError("No positively labeled data available.")

    monkeypatch.setattr(type(freesolv), "score", refuse)
    with pytest.raises(ValueError, match=r"split 'valid' of .*No positively labeled data"):
        MoleculeTask(freesolv).evaluate(Echo(), "valid")
