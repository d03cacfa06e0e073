"""The function of sets: shapes, and the paper's embedding."""

import pytest
import torch
from torch import nn

from lcm_graph.aggregators import AGGREGATIONS, aggregation_by_name
from lcm_graph.datasets import IntegerSets
from lcm_graph.training import BitEmbedding, MoleculeGNN, SetModel

pytest.importorskip("ogb", reason="the extra 'ogb' is not installed")


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
    model = SetModel(aggr, bits=5, hidden=8)
    (batch,) = IntegerSets("second_minimum", 6, 2, 7, bits=5).batches(6)
    model(batch.x, batch.ptr).square().sum().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []
    out = model.eval()(batch.x, batch.ptr)
    assert out.shape == (6, 5)
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
