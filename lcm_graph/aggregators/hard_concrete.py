"""Gates that are learned by being shut at random."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lcm_graph.monoids.mean import count_dtype

TEMPERATURE, LOW, HIGH = 2 / 3, -0.1, 1.1
"""β, γ and ζ of the source, with its values."""

START, RATE = 2.0, 8.0
"""A gate's ``log α`` is ``START + RATE · logit``: at first it is open 97 times in 100. At a
learning rate of 0.003 or more, a few hundred steps of Adam close it."""

CLOSED = 0.01
"""A gate that opens less often stays closed."""


class HardConcrete(nn.Module):
    r"""Gates in [0, 1], each exactly 0 and exactly 1 with some probability.

    A gate that only scales what passes it can be made up for by larger weights behind it, so that
    how far it is open says little of what depends on it. One that is shut at random cannot: a loss
    that suffers from this opens it, any other price closes it.

    :math:`z = \min(1, \max(0, (\zeta - \gamma)\, \sigma((\operatorname{logit} u + \log\alpha) /
    \beta) + \gamma))` with ``u`` uniform (Louizos, Welling & Kingma 2018, "Learning sparse neural
    networks through L0 regularization", eq. 10-12). Not theirs: :meth:`close` and :meth:`settle`
    make gates constant, and where these are not called, a gate counts as open if it is more often
    open than not.

    Args:
        num_gates: how many.
    """

    closed: Tensor
    opened: Tensor

    def __init__(self, num_gates: int) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(num_gates))
        # For good: weight decay would open a gate again, by pulling its logit to 0. Both are
        # replaced, not written to: the backward pass of an earlier call may need them.
        self.register_buffer("closed", torch.zeros(num_gates, dtype=torch.bool))
        self.register_buffer("opened", torch.zeros(num_gates, dtype=torch.bool))

    def reset_parameters(self) -> None:
        """Open all gates, and let them close again."""
        nn.init.zeros_(self.logit)
        self.closed.zero_()
        self.opened.zero_()

    def forward(self, n: int) -> Tensor:
        """``n`` draws of each gate ``[n, num_gates]``, float32 or wider."""
        log_alpha = self._log_alpha()
        uniform = torch.rand(n, len(log_alpha), dtype=log_alpha.dtype, device=log_alpha.device)
        noisy = (uniform.logit(eps=1e-6) + log_alpha) / TEMPERATURE
        return self.unless_constant((LOW + (HIGH - LOW) * torch.sigmoid(noisy)).clamp(0, 1))

    def open_probability(self) -> Tensor:
        """How likely a draw is not 0 ``[num_gates]``; 0 or 1 for a constant gate."""
        shift = TEMPERATURE * math.log(-LOW / HIGH)
        return self.unless_constant(torch.sigmoid(self._log_alpha() - shift))

    def is_open(self) -> Tensor:
        """Whether each gate is open rather than not ``[num_gates]``; the most likely one is."""
        likely = self.open_probability()
        return (likely > 0.5) | _is_first_of(likely)

    def unless_constant(self, gate: Tensor) -> Tensor:
        """``gate`` ``[..., num_gates]``, but 1 and 0 for what is open and closed for good."""
        return torch.where(self.opened, 1, torch.where(self.closed, 0, gate))

    @torch.no_grad()
    def close(self) -> None:
        """Close for good what hardly opens, but for the last, and bound what is open.

        What has become more open than a new gate is put back: where it is hardly ever shut, nothing
        would be known of what is lost without it, and it could not close any more.
        """
        likely = self.open_probability()
        self.closed = self.closed | ((likely < CLOSED) & ~_is_first_of(likely))
        self.logit.clamp_(max=0)

    @torch.no_grad()
    def settle(self, when: Tensor) -> None:
        """If ``when`` is true (bool ``[]``), make all gates constant, as :meth:`is_open` says."""
        is_open = self.is_open()
        self.opened = self.opened | (when & is_open)
        self.closed = self.closed | (when & ~is_open)

    def _log_alpha(self) -> Tensor:
        return START + RATE * self.logit.to(count_dtype(self.logit.dtype))


def _is_first_of(values: Tensor) -> Tensor:
    """Where the largest value is, the first of several."""
    return torch.arange(len(values), device=values.device) == values.argmax()
