"""Every subject makes a model that learns, by itself and in company; PyG's pad, ours do not."""

import pytest
import torch
from torch import nn

from lcm_graph import regularization
from lcm_graph.datasets import IntegerSets, SetStream
from lcm_graph.study import SUBJECTS, Subject
from lcm_graph.study.evaluate import measure_alone
from lcm_graph.training import SetModel

PADS = {"pyg-lcm", "pyg-gru"}


def make_model(subject, bits=4, hidden=8):
    return SetModel(subject.make(bits, hidden), bits, hidden, encode=subject.encode)


@pytest.mark.parametrize("name", SUBJECTS)
def test_every_parameter_learns(name):
    model = make_model(SUBJECTS[name]).train()
    (batch,) = IntegerSets("second_minimum", 8, bits=4).batches(8)
    out = model(batch.x, batch.ptr)
    assert out.shape == (8, 4)
    (out.square().sum() + regularization(model)).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert SUBJECTS[name].note


@pytest.mark.parametrize("name", SUBJECTS)
def test_only_padding_makes_company_matter(name):
    model = make_model(SUBJECTS[name]).eval()
    streams = [SetStream("second_minimum", 10, size, bits=4, seed=size) for size in (2, 5, 30)]
    change = measure_alone(model, streams)[2].change
    assert change is not None
    assert change > 0.05 if name in PADS else change < 1e-4


def test_a_subject_that_reads_bits():
    subject = Subject(lambda bits, hidden: _Counts(bits), encode=False)
    model = make_model(subject)
    assert not list(model.embed.parameters()) and not list(model.encode.parameters())
    x = torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1]])
    assert model(x, torch.tensor([0, 2, 3])).shape == (2, 4)
    assert model.aggr.seen.tolist() == x.tolist()


class _Counts(nn.Module):
    def __init__(self, bits):
        super().__init__()
        self.out_channels = bits

    def forward(self, x, ptr):
        self.seen = x
        return torch.stack([part.sum(0) for part in x.split(ptr.diff().tolist())])
