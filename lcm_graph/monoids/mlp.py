"""A perceptron on pairs, made commutative."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from lcm_graph.monoids.base import check_positive
from lcm_graph.monoids.learned import LearnedMonoid


class BinaryMLP(LearnedMonoid):
    r"""``(f(a, b) + f(b, a)) / 2`` with one hidden layer,
    :math:`f(a, b) = W_2 \, \mathrm{gelu}(W_a a + W_b b + c) + c_2`
    (Ong & Veličković 2022, Sec. 2.5: any f made commutative by averaging both orders).

    As in :class:`BinaryGRU` the hidden layers of both orders are ``u ± v``, so the operator is
    commutative bit for bit and costs ``4 channels · hidden`` multiply-adds a pair, less than two
    perceptrons' six.

    Args:
        channels: size of an element, of a state and of an output.
        hidden: size of the hidden layer (default: ``2 * channels``).
    """

    def __init__(self, channels: int, hidden: int | None = None) -> None:
        super().__init__(channels)
        hidden = 2 * channels if hidden is None else check_positive("hidden", hidden)
        self.weight_sum = nn.Parameter(torch.empty(hidden, channels))  # (W_a + W_b) / 2
        self.weight_diff = nn.Parameter(torch.empty(hidden, channels))  # (W_a - W_b) / 2
        self.bias = nn.Parameter(torch.empty(hidden))
        self.out = nn.Linear(hidden, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        bound = (2 * self.weight_sum.size(1)) ** -0.5
        for parameter in (self.weight_sum, self.weight_diff, self.bias):
            nn.init.uniform_(parameter, -bound, bound)
        self.out.reset_parameters()

    def __repr__(self) -> str:
        return f"BinaryMLP({self.channels}, hidden={self.out.in_features})"

    def operator(self, a: Tensor, b: Tensor) -> Tensor:
        u = linear(a + b, self.weight_sum, self.bias)
        v = linear(a - b, self.weight_diff)
        out: Tensor = self.out((gelu(u + v) + gelu(u - v)) / 2)
        return out
