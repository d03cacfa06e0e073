"""From the gradients of the butterfly's weights to those of a GRU cell's parameters."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_graph.monoids.gru import Weights as Weights
from lcm_graph.monoids.gru import butterfly as butterfly


def cell_gradients(grads: Weights) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of a GRU cell's parameters from those of the butterfly's weights."""
    new_ih, new_hh = grads.w_new.chunk(2)
    bias_ih, bias_hh = grads.bias_new.chunk(2)
    return (
        torch.cat([(grads.w_sum + grads.w_diff) / 2, new_ih]),
        torch.cat([(grads.w_sum - grads.w_diff) / 2, new_hh]),
        torch.cat([grads.bias, bias_ih]),
        torch.cat([grads.bias, bias_hh]),
    )
