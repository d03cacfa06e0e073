"""The paper's operator: a GRU cell on pairs, made commutative."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from lcm_graph.monoids.learned import LearnedMonoid


class BinaryGRU(LearnedMonoid):
    r"""``(GRU(a, b) + GRU(b, a)) / 2`` (Ong & Veličković 2022, Sec. 2.5, "Binary-GRU").

    Commutative bit for bit, not associative. Parameters have the names, shapes and initial
    distribution of :class:`torch.nn.GRUCell` (input and hidden size ``channels``), so a cell's
    ``state_dict`` loads.

    Both orders need the gates :math:`W_i a + W_h b` and :math:`W_i b + W_h a`. With
    :math:`u = (W_i + W_h)(a + b)/2` and :math:`v = (W_i - W_h)(a - b)/2` they are
    :math:`u + v` and :math:`u - v`: the reset and update gates of both cells cost two matrix
    products instead of four, ``8 channels²`` multiply-adds a pair instead of 12.

    Args:
        channels: size of an element, of a state and of an output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.weight_ih = nn.Parameter(torch.empty(3 * channels, channels))
        self.weight_hh = nn.Parameter(torch.empty(3 * channels, channels))
        self.bias_ih = nn.Parameter(torch.empty(3 * channels))
        self.bias_hh = nn.Parameter(torch.empty(3 * channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        bound = self.weight_ih.size(1) ** -0.5
        for parameter in (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh):
            nn.init.uniform_(parameter, -bound, bound)

    def operator(self, a: Tensor, b: Tensor) -> Tensor:
        return combine_pairs(
            a, b, butterfly(self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        )


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


def combine_pairs(a: Tensor, b: Tensor, weights: Weights) -> Tensor:
    """``(GRU(a, b) + GRU(b, a)) / 2`` for ``a`` and ``b [m, d]``."""
    u = linear(a + b, weights.w_sum, weights.bias)
    v = linear(a - b, weights.w_diff)
    reset_ab, update_ab = (u + v).sigmoid().chunk(2, dim=-1)
    reset_ba, update_ba = (u - v).sigmoid().chunk(2, dim=-1)
    in_a, hidden_a = linear(a, weights.w_new, weights.bias_new).chunk(2, dim=-1)
    in_b, hidden_b = linear(b, weights.w_new, weights.bias_new).chunk(2, dim=-1)
    new_ab = torch.addcmul(in_a, reset_ab, hidden_b).tanh()
    new_ba = torch.addcmul(in_b, reset_ba, hidden_a).tanh()
    return (
        torch.lerp(new_ab, b.to(new_ab.dtype), update_ab)
        + torch.lerp(new_ba, a.to(new_ba.dtype), update_ba)
    ) / 2
