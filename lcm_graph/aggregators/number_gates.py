"""Gates of single numbers, which close slowly if nothing needs what passes them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

STEEPNESS, CLOSED = 10.0, 3e-3
"""A gate is ``exp(STEEPNESS · log_gate)``, and 0 below ``CLOSED``. So a step of Adam changes it by
a few per cent, wherever it is: in steps of one size, a gate that is needed and nearly closed, since
the next layer makes up for it, would be closed by accident."""

KNEE = 0.02
"""About where a gate's price turns from a logarithm to a line."""


class NumberGates(nn.Module):
    """Scales of so many numbers, from 0, whose price is to be added to a loss.

    A gate costs 0 if it is closed and 1 if it is 1: a logarithm down to :data:`KNEE`, a line below.
    A price in proportion would fall with the gate, and the less that is left of one, the slower it
    would close (Candès et al., "Enhancing Sparsity by Reweighted l1 Minimization", 2008, eq. 10).

    Args:
        num_gates: how many.
    """

    closed: Tensor

    def __init__(self, num_gates: int) -> None:
        super().__init__()
        self.log_gate = nn.Parameter(torch.zeros(num_gates))
        # Closed for good: weight decay would open a gate again, by pulling its logarithm to 0.
        self.register_buffer("closed", torch.zeros(num_gates, dtype=torch.bool))

    def reset_parameters(self) -> None:
        """Open all gates."""
        nn.init.zeros_(self.log_gate)
        self.closed.zero_()

    def forward(self) -> Tensor:
        """The gates ``[num_gates]``, without a gradient where one is closed."""
        gate = (STEEPNESS * self.log_gate).exp()
        return torch.where((gate > CLOSED) & ~self.closed, gate, 0)

    def loss(self) -> Tensor:
        """What open gates cost, all together."""
        return (torch.log1p(self() / KNEE) / math.log1p(1 / KNEE)).sum()

    @torch.no_grad()
    def close(self) -> None:
        """Close for good what has closed."""
        # Replaced and not written to: the backward pass of an earlier call may need it.
        self.closed = self.closed | (self() == 0)
