"""The products of the butterfly, from a GRU cell's parameters and back."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Weights(NamedTuple):
    """What a pair ``(a, b)`` of ``d`` features each is multiplied with.

    ``u = (a + b) w_sum.T + bias`` and ``v = (a - b) w_diff.T`` give both orders' reset and update
    gates, ``u + v`` and ``u - v``; ``a w_new.T + bias_new`` the input and hidden halves of the
    candidate.
    """

    w_sum: Tensor  # [2 d, d]: reset, update
    w_diff: Tensor  # [2 d, d]
    w_new: Tensor  # [2 d, d]: input, hidden
    bias: Tensor  # [2 d]
    bias_new: Tensor  # [2 d]


def butterfly(w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Weights:
    """The weights of the butterfly from those of a GRU cell (``[3 d, d]``, ``[3 d]``)."""
    gates = 2 * w_ih.size(1)  # rows of the reset and update gates; the candidate's come after
    return Weights(
        (w_ih[:gates] + w_hh[:gates]) / 2,
        (w_ih[:gates] - w_hh[:gates]) / 2,
        torch.cat([w_ih[gates:], w_hh[gates:]]),
        b_ih[:gates] + b_hh[:gates],
        torch.cat([b_ih[gates:], b_hh[gates:]]),
    )


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
