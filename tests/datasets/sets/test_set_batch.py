"""Batches and bits."""

import torch

from lcm_graph.datasets import SetBatch
from lcm_graph.datasets.sets.set_batch import to_bits


def test_to_bits():
    values = torch.tensor([0, 1, 6, 2**31 - 1])
    bits = to_bits(values, 31)
    assert bits.shape == (4, 31) and bits.dtype == torch.float32
    assert bits[2, :4].tolist() == [0, 1, 1, 0]
    assert torch.equal((bits.long() << torch.arange(31)).sum(1), values)
    assert to_bits(values[:0], 3).shape == (0, 3)


def test_to():
    batch = SetBatch(torch.ones(3, 2), torch.tensor([0, 3]), torch.tensor([1])).to("cpu")
    assert isinstance(batch, SetBatch) and batch.x.shape == (3, 2)
