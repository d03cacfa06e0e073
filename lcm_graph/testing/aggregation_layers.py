"""PyG's layers around an aggregation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.aggr import DegreeScalerAggregation, MultiAggregation

from lcm_graph.testing.check import Measurement
from lcm_graph.testing.compare import expect_close
from lcm_graph.testing.sets import SIZES, AggregationSubject


class Neighbours(MessagePassing):
    """Aggregates what neighbours hold, and does nothing else."""

    def __init__(self, aggr: Any) -> None:
        super().__init__(aggr=aggr)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Aggregate the rows of ``x [n, F]`` over incoming edges."""
        out: Tensor = self.propagate(edge_index, x=x)
        return out


def check_message_passing(subject: AggregationSubject) -> Measurement:
    """``MessagePassing(aggr=aggregation)`` aggregates the messages of incoming edges."""
    aggregation = subject.fresh()
    target = subject.index(SIZES)
    generator = torch.Generator().manual_seed(subject.seed)
    source = torch.randint(len(SIZES), (len(target),), generator=generator)
    x = subject.draw(len(SIZES))
    expected = aggregation(x[source], target, dim_size=len(SIZES))
    out = Neighbours(aggregation)(x, torch.stack([source, target]))
    return expect_close(out, expected, f"a message passing layer with {len(target)} edges")


def check_multi_aggregation(subject: AggregationSubject) -> Measurement:
    """It works beside others in a ``MultiAggregation``."""
    aggregation = subject.fresh()
    index, x = subject.index(SIZES), subject.draw(sum(SIZES))
    expected = aggregation(x, index)
    out = MultiAggregation([aggregation, "sum"])(x, index)
    return expect_close(out[:, : expected.size(1)], expected, "the first part of MultiAggregation")


def check_degree_scaler(subject: AggregationSubject) -> Measurement:
    """It works within a ``DegreeScalerAggregation``."""
    aggregation = subject.fresh()
    index, x = subject.index(SIZES), subject.draw(sum(SIZES))
    expected = aggregation(x, index)
    histogram = torch.bincount(torch.tensor(SIZES))
    scaled = DegreeScalerAggregation(aggregation, ["identity", "amplification"], histogram)
    out = scaled.to(subject.dtype)(x, index)
    return expect_close(out[:, : expected.size(1)], expected, "the unscaled part of DegreeScaler")


CHECKS: tuple[Callable[[AggregationSubject], Measurement], ...] = (
    check_message_passing,
    check_multi_aggregation,
    check_degree_scaler,
)
