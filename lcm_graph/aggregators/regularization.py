"""The regularisation losses of all aggregators in a model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lcm_graph.aggregators.base import FoldAggregation


def regularization(model: nn.Module) -> Tensor:
    """The sum of :meth:`FoldAggregation.regularization` over the aggregators of a model.

    A scalar, to be added to the training loss: ``loss + regularization(model)``. 0 where no
    aggregator was given a loss's weight.
    """
    losses = (m.regularization() for m in model.modules() if isinstance(m, FoldAggregation))
    return sum(losses, start=torch.zeros(()))
