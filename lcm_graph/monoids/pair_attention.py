"""Attention over two: the pair asks, each of both answers."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from lcm_graph.monoids.base import check_positive
from lcm_graph.monoids.learned import LearnedMonoid
from lcm_graph.monoids.normalized import unit_rms


class PairAttention(LearnedMonoid):
    r"""Multi-head attention (Vaswani et al., "Attention Is All You Need", 2017, Sec. 3.2) of a pair
    to its two elements, then a perceptron.

    The query is :math:`Q (a + b)`, keys and values are :math:`K` and :math:`V` of each element. In
    each head the softmax over two scores is a sigmoid of their difference,
    :math:`s = \langle Q (a + b), K (a - b) \rangle / \sqrt{\text{channels} / \text{heads}}`:

    .. math::
        y = \mathrm{RMS}\bigl((a + b) / 2 + \sigma(s) V a + \sigma(-s) V b\bigr), \qquad
        a \oplus b = y + W_2 \, \mathrm{gelu}(W_1 y),

    where RMS makes the root mean square of the channels 1, times a learned gain (Zhang & Sennrich,
    "Root Mean Square Layer Normalization", 2019, eq. 4; see :func:`unit_rms` for small numbers).
    So what was combined has one scale at any depth; elements keep theirs. Commutative bit for bit,
    not associative. A pair costs ``4 channels² + 2 channels · hidden`` multiply-adds.

    Args:
        channels: size of an element, of a state and of an output.
        heads: how many weights a pair has; divides ``channels``.
        hidden: size of the perceptron's hidden layer (default: ``2 * channels``).

    Raises:
        ValueError: a size is not a positive integer, or ``heads`` does not divide ``channels``.
    """

    def __init__(self, channels: int, heads: int = 4, hidden: int | None = None) -> None:
        super().__init__(channels)
        self.heads = check_positive("heads", heads)
        if channels % heads:
            raise ValueError(
                f"'heads' must divide 'channels' = {channels} (got {heads}); "
                f"take heads={math.gcd(channels, heads)}, or other channels"
            )
        hidden = 2 * channels if hidden is None else check_positive("hidden", hidden)
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels, bias=False)  # one would cancel in the difference
        self.value = nn.Linear(channels, channels)
        self.gain = nn.Parameter(torch.empty(channels))
        self.hidden = nn.Linear(channels, hidden)
        self.out = nn.Linear(hidden, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.ones_(self.gain)
        for layer in (self.query, self.key, self.value, self.hidden, self.out):
            layer.reset_parameters()

    def __repr__(self) -> str:
        return (
            f"PairAttention({self.channels}, heads={self.heads}, hidden={self.hidden.out_features})"
        )

    def operator(self, a: Tensor, b: Tensor) -> Tensor:
        total = a + b
        product = self._split(self.query(total) * self.key(a - b))
        score = product.sum(-1, keepdim=True) / math.sqrt(product.size(-1))  # a's less b's
        value_a, value_b = self._split(self.value(a)), self._split(self.value(b))
        # Two sigmoids: 1 - sigmoid(score) would round differently in the other order.
        attended = score.sigmoid() * value_a + (-score).sigmoid() * value_b
        y = unit_rms(total / 2 + attended.flatten(1)) * self.gain
        return y + self.out(gelu(self.hidden(y)))

    def _split(self, x: Tensor) -> Tensor:
        """``[n, heads, channels / heads]``"""
        return x.unflatten(-1, (self.heads, x.size(-1) // self.heads))
