"""PyG's aggregations behind a ptr."""

import pytest
import torch
from torch_geometric.nn import aggr

from lcm_graph.aggregators import pyg

MAKERS = {
    "pna": lambda: pyg.pna(8),
    "lcm": lambda: pyg.lcm(8, 8),
    "gru": lambda: pyg.gru(8, 8),
    "deep_sets": lambda: pyg.deep_sets(8),
    "set_transformer": lambda: pyg.set_transformer(8),
}


@pytest.mark.parametrize("name", MAKERS)
def test_ptr_and_index_are_the_same(name):
    aggregation = MAKERS[name]().eval()
    x, ptr = torch.randn(6, 8), torch.tensor([0, 2, 2, 6])
    out = aggregation(x, ptr=ptr)
    index = torch.tensor([0, 0, 2, 2, 2, 2])
    torch.testing.assert_close(out, aggregation(x, index, dim_size=3))
    torch.testing.assert_close(out, aggregation.aggregation(x, index, dim_size=3))
    assert out.shape == (3, aggregation.out_channels)


def test_pna_is_four_statistics_and_three_scalers():
    sizes = torch.arange(1, 17)
    average = (sizes + 1).float().log().mean()
    x = torch.randn(5, 2)
    out = pyg.pna(2)(x, ptr=torch.tensor([0, 5]))
    std = x.var(0, unbiased=False).clamp(min=1e-5).sqrt()
    expected = torch.cat([x.mean(0), x.amax(0), x.amin(0), std])
    scale = torch.tensor(6.0).log() / average
    torch.testing.assert_close(out[0], torch.cat([expected, expected * scale, expected / scale]))


def test_a_set_transformer_s_heads_divide_its_width():
    with pytest.raises(ValueError, match=r"hidden must be a multiple of 4, .*\(got 6\)"):
        pyg.set_transformer(6)


def test_reset_parameters():
    aggregation = pyg.PyGAggregation(aggr.LCMAggregation(4, 4), 4)
    before = aggregation.aggregation.lin.weight.clone()
    aggregation.reset_parameters()
    assert not torch.equal(before, aggregation.aggregation.lin.weight)
