"""What the graph networks have in common."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn.aggr import Aggregation


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that uses its running statistics for a batch of one node."""

    def forward(self, input: Tensor) -> Tensor:
        if self.training and input.size(0) == 1:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(input)


def to_width(aggregation: Aggregation, hidden: int) -> nn.Module:
    """A linear layer from an aggregation's outputs to ``hidden``, if they are of another width."""
    pooled = int(aggregation.out_channels)
    return nn.Linear(pooled, hidden) if pooled != hidden else nn.Identity()
