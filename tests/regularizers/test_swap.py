"""The swap loss against a loop over sets, with the same prefixes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lcm_graph import RecurrentAggregation
from lcm_graph.reduce import FoldPlan
from lcm_graph.regularizers import swap_loss
from tests.references import error, gradients, ptr_of

SIZES = (4, 0, 1, 2, 3, 16, 17)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_against_a_loop(cell: str, layers: int, monkeypatch) -> None:
    torch.manual_seed(0)
    network = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}[cell](3, 5, layers).double()
    x = torch.randn(sum(SIZES), 3, dtype=torch.float64, requires_grad=True)
    rows, batch_sizes, sets = FoldPlan.from_ptr(ptr_of(SIZES)).sequence
    packed = x[rows]
    states: list[tuple[Tensor, ...]] = []
    state: Any = None
    for step in packed.split(batch_sizes):
        if state is not None:
            state = tuple(s[:, : step.size(0)] for s in state)
        previous = state if state is None or cell == "lstm" else state[0]
        state = network(step.unsqueeze(0), previous)[1]
        state = state if isinstance(state, tuple) else (state,)
        states.append(state)
    drawn = torch.tensor([0.0, 0.999, 0.5, 0.3, 0.7])  # the largest set first
    monkeypatch.setattr(torch, "rand", lambda *args, **kwargs: drawn)
    actual = swap_loss(network, packed, states, batch_sizes)

    losses = []
    ptr = ptr_of(SIZES).tolist()
    for place, s in enumerate(sets.tolist()):
        elements = x[ptr[s] : ptr[s + 1]]
        if len(elements) < 2:
            continue
        prefix = int(drawn[place] * (len(elements) - 1))
        one, two = elements[prefix], elements[prefix + 1]
        ends = []
        for pair in ((one, two), (two, one)):
            _, end = network(torch.stack([*elements[:prefix], *pair]).unsqueeze(1))
            ends.append(end if isinstance(end, tuple) else (end,))
        losses.append(sum((a - b).square().sum() for a, b in zip(*ends, strict=True)))
    expected = sum(losses) / len(losses)
    assert len(losses) == 5
    assert error(actual.double(), expected) < 1e-6
    inputs = [x, *network.parameters()]
    for got, wanted in zip(gradients(actual, inputs), gradients(expected, inputs), strict=True):
        assert error(got, wanted) < 1e-6


def test_a_network_that_adds_has_none() -> None:
    network = nn.RNN(2, 2, nonlinearity="relu")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.eye(2) if parameter.dim() == 2 else torch.zeros(2))
    aggr = RecurrentAggregation(2, 2, cell="rnn", nonlinearity="relu", swap=1.0)
    aggr.rnn = network
    aggr(torch.rand(9, 2), torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2]))
    assert aggr.regularization().item() < 1e-12


def test_sets_of_one_have_none() -> None:
    aggr = RecurrentAggregation(2, 3, swap=1.0)
    aggr(torch.randn(4, 2), torch.arange(4))
    assert aggr.regularization().item() == 0
