"""The paper's operator: a GRU cell on pairs, made commutative."""

from __future__ import annotations

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
        gates = 2 * a.size(-1)  # rows of the reset and update gates; the candidate's come after
        w_sum = (self.weight_ih[:gates] + self.weight_hh[:gates]) / 2
        w_diff = (self.weight_ih[:gates] - self.weight_hh[:gates]) / 2
        bias = self.bias_ih[:gates] + self.bias_hh[:gates]
        w_new = torch.cat([self.weight_ih[gates:], self.weight_hh[gates:]])
        bias_new = torch.cat([self.bias_ih[gates:], self.bias_hh[gates:]])

        u = linear(a + b, w_sum, bias)
        v = linear(a - b, w_diff)
        reset_ab, update_ab = (u + v).sigmoid().chunk(2, dim=-1)
        reset_ba, update_ba = (u - v).sigmoid().chunk(2, dim=-1)
        in_a, hidden_a = linear(a, w_new, bias_new).chunk(2, dim=-1)
        in_b, hidden_b = linear(b, w_new, bias_new).chunk(2, dim=-1)
        new_ab = torch.addcmul(in_a, reset_ab, hidden_b).tanh()
        new_ba = torch.addcmul(in_b, reset_ba, hidden_a).tanh()
        return (
            torch.lerp(new_ab, b.to(new_ab.dtype), update_ab)
            + torch.lerp(new_ba, a.to(new_ba.dtype), update_ba)
        ) / 2
