"""Distributed training waits for a gradient of every parameter, whatever the batch holds."""

from __future__ import annotations

import pytest
import torch

from lcm_graph.aggregators import aggregation_by_name
from tests.references import index_of


@pytest.mark.parametrize("sizes", [(1, 1), (0, 0), (2, 0, 5)], ids=str)
@pytest.mark.parametrize("name", ["lcm", "mlp", "gru", "lstm", "rnn"])
def test_every_parameter_has_a_gradient(name: str, sizes: tuple[int, ...]) -> None:
    aggregation = aggregation_by_name(name, 3, 4)
    index = index_of(sizes)
    aggregation(torch.randn(len(index), 3), index, dim_size=len(sizes)).sum().backward()
    for key, parameter in aggregation.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
