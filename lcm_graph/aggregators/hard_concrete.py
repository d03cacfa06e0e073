"""Gates that are learned by being shut at random."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lcm_graph.monoids.mean import count_dtype

TEMPERATURE, LOW, HIGH = 2 / 3, -0.1, 1.1
"""β, γ and ζ of the source, with its values."""

START, RATE = 2.5, 5.0
"""A gate's ``log α`` is ``START + RATE · logit``: at first it is open 98 times in 100, and a step
of Adam moves it far enough for a few hundred of them to open or close it."""

CLOSED = 0.01
"""A gate that opens less often stays closed."""


class HardConcrete(nn.Module):
    r"""Gates in [0, 1], each exactly 0 and exactly 1 with some probability.

    A gate that only scales what passes it can be made up for by larger weights behind it, so that
    how far it is open says little of what depends on it. One that is shut at random cannot: a loss
    that suffers from this opens it for good, any other price closes it for good.

    :math:`z = \min(1, \max(0, (\zeta - \gamma)\, \sigma((\operatorname{logit} u + \log\alpha) /
    \beta) + \gamma))` with ``u`` uniform, and without ``u`` and ``β`` in evaluation (Louizos,
    Welling & Kingma 2018, "Learning sparse neural networks through L0 regularization", eq. 10-13).

    Args:
        num_gates: how many.
    """

    closed: Tensor

    def __init__(self, num_gates: int) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(num_gates))
        # For good: weight decay would open a gate again, by pulling its logit to 0.
        self.register_buffer("closed", torch.zeros(num_gates, dtype=torch.bool))

    def reset_parameters(self) -> None:
        """Open all gates."""
        nn.init.zeros_(self.logit)
        self.closed.zero_()

    def forward(self, n: int) -> Tensor:
        """``n`` draws of each gate ``[n, num_gates]``, float32 or wider."""
        log_alpha = self._log_alpha()
        uniform = torch.rand(n, len(log_alpha), dtype=log_alpha.dtype, device=log_alpha.device)
        return self._stretch((uniform.logit(eps=1e-6) + log_alpha) / TEMPERATURE)

    def value(self) -> Tensor:
        """Each gate in evaluation ``[num_gates]``, float32 or wider."""
        return self._stretch(self._log_alpha())

    def open_probability(self) -> Tensor:
        """How likely a draw is not 0 ``[num_gates]``; 0 for a closed gate."""
        probability = torch.sigmoid(self._log_alpha() - TEMPERATURE * math.log(-LOW / HIGH))
        return torch.where(self.closed, 0, probability)

    @torch.no_grad()
    def close(self) -> None:
        """Close for good what hardly opens."""
        self.closed |= self.open_probability() < CLOSED

    def _log_alpha(self) -> Tensor:
        return START + RATE * self.logit.to(count_dtype(self.logit.dtype))

    def _stretch(self, x: Tensor) -> Tensor:
        gate = (LOW + (HIGH - LOW) * torch.sigmoid(x)).clamp(0, 1)
        return torch.where(self.closed, 0, gate)
