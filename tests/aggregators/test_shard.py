"""Models whose edges lie with two processes, against one."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
from torch import nn

from lcm_graph import LCMAggregation, MixAggregation, RecurrentAggregation, shard
from tests.aggregators.sharded import graph
from tests.processes import run
from tests.references import error


def test_layers(tmp_path: Path) -> None:
    found = run("tests.aggregators.sharded", "layers", 2, tmp_path)
    net, x, edges, cotangent = graph()
    expected = net(x, edges)
    (expected * cotangent).sum().backward()
    for one in found:
        assert error(one["out"], expected.detach()) <= 1e-12
        for name, weight in net.named_parameters():
            if weight.grad is None:
                assert not one["gradients"][name].any()
            else:
                assert error(one["gradients"][name], weight.grad) <= 1e-12
        assert "call shard(model, group) on the copy" in one["said"]


def test_copies_of_what_all_processes_share() -> None:
    """Without a group of its own nothing is lost."""
    aggr = shard(LCMAggregation(2, 2))
    for other in (copy.deepcopy(aggr), pickle.loads(pickle.dumps(aggr))):
        assert other.shards is not None and other.shards.group is None


@pytest.mark.parametrize(
    ("model", "error_type", "message"),
    [
        (nn.Linear(1, 1), ValueError, "has no aggregator"),
        (RecurrentAggregation(2, 2), TypeError, "RecurrentAggregation cannot be shared out"),
        (MixAggregation(2), TypeError, "MixAggregation cannot be shared out"),
        (LCMAggregation(2, 2, order="random"), ValueError, "order='random'"),
        (LCMAggregation(2, 2, bracketing="random"), ValueError, "bracketing='random'"),
    ],
)
def test_errors(model: nn.Module, error_type: type[Exception], message: str) -> None:
    with pytest.raises(error_type, match=message):
        shard(model)
