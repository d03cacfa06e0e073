"""Models whose edges lie with two processes, against one."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist
from torch import nn
from torch_geometric.nn import SAGEConv
from torch_geometric.nn.aggr import MultiAggregation

from lcm_graph import (
    LCMAggregation,
    MixAggregation,
    MonoidAggregation,
    RecurrentAggregation,
    shard,
)
from lcm_graph.monoids import Mean
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


def test_other_parameters(tmp_path: Path) -> None:
    found = run("tests.aggregators.sharded", "other_parameters", 2, tmp_path)
    assert all("ranks [1] differ from rank 0" in said for said in found)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A group of one process."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("alone")
def test_copies_of_what_all_processes_share() -> None:
    """Without a group of its own nothing is lost."""
    aggr = shard(LCMAggregation(2, 2))
    for other in (copy.deepcopy(aggr), pickle.loads(pickle.dumps(aggr))):
        assert other.shards is not None and other.shards.group is None


@pytest.mark.parametrize(
    ("model", "error_type", "message"),
    [
        (nn.Linear(1, 1), ValueError, "has no aggregator"),
        (RecurrentAggregation(2, 2), TypeError, "RecurrentAggregation, which cannot be shared out"),
        (MixAggregation(2), TypeError, "MixAggregation, which cannot be shared out"),
        (LCMAggregation(2, 2, order="random"), ValueError, "order='random'"),
        (LCMAggregation(2, 2, bracketing="random"), ValueError, "bracketing='random'"),
        (LCMAggregation(2, 2, associativity=0.1), ValueError, "its losses would be of this rank"),
        (
            nn.ModuleList([SAGEConv(2, 2, aggr=LCMAggregation(2, 2)), SAGEConv(2, 2)]),
            TypeError,
            "1.aggr_module is PyG's MeanAggregation",
        ),
        (MultiAggregation(["mean", LCMAggregation(2, 2)]), TypeError, "PyG's MeanAggregation"),
        (None, TypeError, "'model' must be a torch.nn.Module"),
    ],
)
def test_errors(model: nn.Module, error_type: type[Exception], message: str) -> None:
    with pytest.raises(error_type, match=message):
        shard(model)


def test_without_a_group() -> None:
    with pytest.raises(RuntimeError, match="init_process_group"):
        shard(LCMAggregation(2, 2))


@pytest.mark.usefixtures("alone")
def test_aggregators_side_by_side() -> None:
    both = MultiAggregation([LCMAggregation(2, 2), MonoidAggregation(Mean(2))])
    shard(both)
    assert all(aggr.shards is not None for aggr in both.aggrs)
    with pytest.raises(TypeError, match="'group' must be a process group"):
        shard(both, "world")  # type: ignore[arg-type]
