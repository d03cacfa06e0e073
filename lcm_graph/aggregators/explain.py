"""Masks for explainers that mean "left out" rather than "multiplied by zero"."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lcm_graph.aggregators.base import FoldAggregation


def explain_message(self: Any, inputs: Tensor, dim_size: int | None) -> Tensor:
    """Mask messages by interpolating towards the identity of the aggregation's monoid.

    PyG's explainers multiply a message by its edge's mask. Where 0 is not neutral that does not
    leave the message out: a maximum over negative messages rises to 0. Put this in its place, layer
    by layer, as PyG provides for::

        conv.explain_message = explain_message.__get__(conv, MessagePassing)

    A mask of 1 then changes nothing and a mask of 0 gives the answer without the edge.

    Args:
        self: the convolution, whose ``aggr`` is one of ours with a monoid that defines ``weigh``.
        inputs: messages, the edges along ``self.node_dim``.
        dim_size: number of nodes, for the self-loops that a layer may have added.

    Raises:
        TypeError: the layer aggregates otherwise.
        ValueError: no explainer has set an edge mask.
    """
    aggregation = self.aggr_module
    if not isinstance(aggregation, FoldAggregation):
        raise TypeError(
            "explain_message needs a convolution with an lcm_graph aggregation, such as "
            f"MonoidAggregation(Max(64)) (got {aggregation})"
        )
    mask = self._edge_mask
    if mask is None:
        raise ValueError("'edge_mask' is not set: this is to be called by an explainer")
    if self._apply_sigmoid:
        mask = mask.sigmoid()
    if mask.numel() != inputs.size(self.node_dim):  # self-loops: dropped, then one for each node
        mask = torch.cat([mask[self._loop_mask], mask.new_ones(dim_size or 0)])
    aggregation.mask_next(mask)
    return inputs
