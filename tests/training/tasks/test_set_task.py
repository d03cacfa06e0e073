"""Set functions: losses and metric against their definitions."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lcm_graph.datasets import IntegerSets, SetStream, is_right
from lcm_graph.training import (
    SetModel,
    SetTask,
    fit,
    set_accuracy,
)


class Exact(nn.Module):
    """Finds the second minimum by sorting; wrong on sets of more than ``limit`` elements."""

    def __init__(self, limit):
        super().__init__()
        self.limit, self.unused = limit, nn.Parameter(torch.zeros(1))

    def forward(self, x, ptr):
        weights = 2.0 ** torch.arange(x.size(1))
        rows = []
        for a, b in zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True):
            order = (x[a:b] @ weights).argsort()
            rows.append(x[a + order[1]] - 0.5 if b - a <= self.limit else -x[a + order[1]] + 0.5)
        return torch.stack(rows)


def test_set_accuracy_counts_whole_answers():
    sets = IntegerSets("second_minimum", 700, 2, 5, seed=0)  # more than one evaluation batch
    assert set_accuracy(Exact(5), sets) == 1.0
    small = ((sets.ptr[1:] - sets.ptr[:-1]) <= 3).float().mean().item()
    assert set_accuracy(Exact(3), sets) == pytest.approx(small)


@pytest.mark.parametrize("name", ["second_minimum", "mode", "sum"])
def test_set_accuracy_of_every_answer(name):
    stream = SetStream(name, 700, 5, max_elements=900)
    model = SetModel("sum", stream.bits, 8, stream.function.num_outputs(stream.bits)).train()
    right = [
        is_right(model(batch.x, batch.ptr), batch.y, stream.function.answer) for batch in stream
    ]
    assert set_accuracy(model, stream) == torch.cat(right).sum().item() / 700
    assert model.training


def test_second_minimum_task():
    train, valid = (IntegerSets("second_minimum", n, seed=n) for n in (10, 8))
    task = SetTask(train, valid, SetStream("second_minimum", 6, 40), batch_size=4)
    batches = list(task.train_batches(torch.Generator().manual_seed(0)))
    assert len(batches) == task.steps_per_epoch == 3 and task.maximize
    model = SetModel("sum", hidden=8)
    expected = F.binary_cross_entropy(model(batches[0].x, batches[0].ptr).sigmoid(), batches[0].y)
    torch.testing.assert_close(task.loss(model, batches[0]), expected)
    assert task.evaluate(Exact(39), "valid") == 1.0 and task.evaluate(Exact(39), "test") == 0.0
    assert "batch_size=4" in repr(task) and repr(train) in repr(task)


def test_class_and_real_losses():
    train = IntegerSets("modular_sum", 10)
    (batch,) = train.batches(10)
    model = SetModel("sum", bits=4, hidden=8, num_outputs=10)
    chosen = model(batch.x, batch.ptr).log_softmax(1)[torch.arange(10), batch.y]
    torch.testing.assert_close(SetTask(train, train).loss(model, batch), -chosen.mean())

    train = IntegerSets("sum", 10)
    (batch,) = train.batches(10)
    model = SetModel("sum", hidden=8, num_outputs=1)
    error = (model(batch.x, batch.ptr) - batch.y).abs()
    expected = torch.where(error < 0.1, error.square() / 0.2, error - 0.05).mean()
    torch.testing.assert_close(SetTask(train, train).loss(model, batch), expected)


def test_set_task_refuses():
    train, valid = IntegerSets("second_minimum", 10), IntegerSets("second_minimum", 8, seed=1)
    task = SetTask(train, valid, batch_size=4)
    with pytest.raises(ValueError, match=r"split must be one of train, valid \(got 'test'\)"):
        task.evaluate(SetModel("sum", hidden=8), "test")
    with pytest.raises(ValueError, match=r"batch_size must be at least 1 \(got 0\)"):
        SetTask(train, valid, batch_size=0)
    with pytest.raises(ValueError, match=r"valid must have train's .*\(got 'parity' and 8\)"):
        SetTask(train, IntegerSets("parity", 8))
    with pytest.raises(ValueError, match=r"test must have .*\(got 'second_minimum' and 16\)"):
        SetTask(train, valid, SetStream("second_minimum", 8, 4, bits=16))


def test_learns_second_minimum_of_few_bits():
    train, valid = (
        IntegerSets("second_minimum", 512, 2, 4, bits=2, seed=0),
        IntegerSets("second_minimum", 128, 2, 4, bits=2, seed=1),
    )
    model = SetModel("topk", bits=2, hidden=16)
    result = fit(model, SetTask(train, valid, batch_size=32), epochs=8, lr=0.02)
    assert result.best_valid > 0.9 > valid.trivial_accuracy() + 0.2


@pytest.mark.parametrize(("name", "aggr"), [("majority", "mean"), ("sum", "sum")])
def test_learns_other_answers(name, aggr):
    train, valid = IntegerSets(name, 512, seed=0), IntegerSets(name, 128, seed=1)
    model = SetModel(aggr, train.bits, 16, train.function.num_outputs(train.bits))
    result = fit(model, SetTask(train, valid, batch_size=32), epochs=8, lr=0.01)
    assert result.best_valid > valid.trivial_accuracy() + 0.2
