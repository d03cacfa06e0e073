"""A Tree-LSTM on pairs: two children, one parent."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from lcm_graph.monoids.learned import Adjoined, LearnedMonoid


class BinaryLSTM(LearnedMonoid):
    r"""The child-sum Tree-LSTM with two children (Tai, Socher & Manning, "Improved Semantic
    Representations From Tree-Structured Long Short-Term Memory Networks", 2015, Sec. 3.1, eqs. 2-8;
    the nodes of the fold have no input of their own).

    With :math:`h = h_a + h_b` and a forget gate for each child,
    :math:`f_k = \sigma(U_f h_k + b_f)`,

    .. math::
        i, o = \sigma(U_{i,o} h + b_{i,o}), \quad u = \tanh(U_u h + b_u), \quad
        c = i u + f_a c_a + f_b c_b, \quad h' = o \tanh c.

    An element lifts to the cell without children: its gates are :math:`W x + b`, with the same
    biases. Commutative bit for bit, not associative. ``h`` stays within ±1, while ``c`` can add up
    what it is given, so it may grow with the size of a set.

    The value of a state is ``[n, 2 * channels]``, ``h`` before ``c``; ``lower`` gives ``h``. A pair
    costs ``5 channels²`` multiply-adds, an element 3 more.

    Args:
        channels: size of an element, of ``h`` and ``c``, and of an output.

    Raises:
        ValueError: ``channels`` is not a positive integer.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        # Rows: input, output, update.
        self.weight_leaf = nn.Parameter(torch.empty(3 * channels, channels))
        self.weight_sum = nn.Parameter(torch.empty(3 * channels, channels))
        self.bias = nn.Parameter(torch.empty(3 * channels))
        self.weight_forget = nn.Parameter(torch.empty(channels, channels))
        self.bias_forget = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        bound = self.weight_forget.size(1) ** -0.5  # as torch's LSTM
        for weight in (self.weight_leaf, self.weight_sum, self.weight_forget):
            nn.init.uniform_(weight, -bound, bound)
        for bias in (self.bias, self.bias_forget):
            nn.init.uniform_(bias, -bound, bound)

    def lift(self, x: Tensor) -> Adjoined:
        gates = linear(self._check_elements(x), self.weight_leaf, self.bias)
        return Adjoined(_cell(gates, 0.0).to(x.dtype))

    def operator(self, a: Tensor, b: Tensor) -> Tensor:
        """``[n, 2 * channels]`` twice gives ``[n, 2 * channels]``."""
        h_a, c_a = a.chunk(2, dim=-1)
        h_b, c_b = b.chunk(2, dim=-1)
        forget_a = linear(h_a, self.weight_forget, self.bias_forget).sigmoid()
        forget_b = linear(h_b, self.weight_forget, self.bias_forget).sigmoid()
        gates = linear(h_a + h_b, self.weight_sum, self.bias)
        return _cell(gates, forget_a * c_a + forget_b * c_b)

    def lower(self, state: Adjoined) -> Tensor:
        h, _ = state.value.chunk(2, dim=-1)
        return super().lower(Adjoined(h, state.present))

    def _identity_shape(self, n: int) -> tuple[int, int]:
        n, channels = super()._identity_shape(n)
        return (n, 2 * channels)


def _cell(gates: Tensor, kept: Tensor | float) -> Tensor:
    """``h`` and ``c`` side by side, from what enters the gates and what is kept of the children."""
    into, out, update = gates.chunk(3, dim=-1)
    c = into.sigmoid() * update.tanh() + kept
    return torch.cat([out.sigmoid() * c.tanh(), c], dim=-1)
