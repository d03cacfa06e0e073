"""Recurrent aggregation against torch's networks, set by set."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import aggr as pyg

from lcm_graph.aggregators import RecurrentAggregation
from tests.references import error, gradients, index_of

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
SIZES = (3, 0, 1, 12, 2)
CELLS = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_each_set_read_alone(cell: str, dtype: torch.dtype, num_layers: int) -> None:
    aggregation = RecurrentAggregation(3, 4, cell, num_layers=num_layers).to(dtype)
    index = index_of(SIZES)[torch.randperm(18)]
    x = torch.randn(18, 3, dtype=dtype, requires_grad=True)

    def last(rows: Tensor) -> Tensor:
        return aggregation.network(rows)[0][-1] if len(rows) else x.new_zeros(4)

    expected = torch.stack([last(x[index == s]) for s in range(6)])
    out = aggregation(x, index, dim_size=6)
    assert error(out, expected) <= TOLERANCE[dtype]
    inputs = [x, *aggregation.parameters()]
    for got, wanted in zip(gradients(out, inputs), gradients(expected, inputs), strict=True):
        assert error(got, wanted) <= 10 * TOLERANCE[dtype]


@pytest.mark.parametrize(
    ("theirs", "cell"),
    [(pyg.GRUAggregation(3, 4), "gru"), (pyg.LSTMAggregation(3, 4), "lstm")],
    ids=["gru", "lstm"],
)
def test_pygs_checkpoints_and_numbers(theirs: nn.Module, cell: str) -> None:
    """Numbers are PyG's where it pads nothing."""
    ours = RecurrentAggregation(3, 4, cell)
    ours.load_state_dict(theirs.state_dict())
    x, index = torch.randn(20, 3), index_of((5, 5, 5, 5))
    assert error(ours(x, index), theirs(x, index)) <= TOLERANCE[torch.float32]
    assert set(ours.state_dict()) == set(theirs.state_dict())
