"""Which of several factors a task needs, chosen while it is learned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lcm_graph.aggregators.hard_concrete import HardConcrete

LOWEST, RISE = 1e-3, 2 / 3
"""The price of an open gate begins at ``LOWEST`` of its weight, and reaches all of it after
``RISE`` of the choice."""


class FactorChoice(nn.Module):
    """A gate for each factor, in three phases.

    1. *Warm-up*: each set sees a random part of the factors, so that each learns to answer alone.
       Factors that learn together share an answer out among themselves, and all are missed then.
    2. *Choice*: gates shut at random (:class:`HardConcrete`), and how likely they open costs a
       loss. A factor closes if the task's loss is less than ``weight`` times its cost greater
       without it. The price rises from little, so those that are missed least close first, and the
       last one is free: however small the loss, the one that is missed most stays.
    3. From then on the gates are constant: those that were open more often than not are open for
       all sets, the others are closed, and nothing is shut at random any more.

    Args:
        costs: of each factor's open gate, in units of ``weight``.
        weight: of what open gates cost, in units of the task's loss; 0: no gate closes.
        warmup: calls in training of the first phase.
        choice: calls in training of the second; 0: no gate closes.
        dropout: probability that a factor is hidden from a set in the first. One is always seen.
    """

    calls: Tensor

    def __init__(
        self, costs: Sequence[float], weight: float, warmup: int, choice: int, dropout: float
    ) -> None:
        super().__init__()
        self.weight, self.warmup, self.choice, self.dropout = weight, warmup, choice, dropout
        self.gates = HardConcrete(len(costs))
        self.costs = tuple(costs)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def reset_parameters(self) -> None:
        """Begin anew."""
        self.gates.reset_parameters()
        self.calls.zero_()

    @property
    def has_chosen(self) -> Tensor:
        """Whether the third phase has begun, bool ``[]``."""
        return self.calls > self.warmup + self.choice

    def forward(self, num_sets: int) -> Tensor:
        """Each factor's gate for each set ``[num_sets, factors]``, or for all ``[1, factors]``."""
        if not self.weight:
            # A gradient of 0, and not none: distributed training asks for that of each parameter.
            return self.gates.unless_constant(1 + 0 * self.gates.logit)[None]
        if not self.training:
            return self.gates.is_open()[None].to(self.gates.logit.dtype)
        if not torch.compiler.is_compiling() and self.has_chosen:
            return self.gates(1)
        return torch.where(self.calls > self.warmup, self.gates(num_sets), self._parts(num_sets))

    def loss(self) -> Tensor:
        """What open gates cost."""
        likely = self.gates.open_probability()
        is_open = self.gates.is_open()
        is_last = is_open & (is_open.sum() == 1)
        costs = torch.where(is_last, 0, likely.new_tensor(self.costs))
        done = (self.calls - self.warmup) / max(self.choice, 1)
        weight = self.weight * LOWEST ** (1 - done / RISE).clamp_min(0)
        is_choosing = (self.calls > self.warmup) & ~self.has_chosen
        return is_choosing * weight * (costs @ likely)

    @torch.no_grad()
    def count_call(self) -> None:
        """A call in training begins."""
        self.calls = self.calls + 1
        if self.weight:
            self.gates.close()
            self.gates.settle(self.has_chosen)

    def _parts(self, num_sets: int) -> Tensor:
        """0 for what is hidden from a set, 1 for what it sees."""
        like = self.gates.logit
        seen = torch.rand(num_sets, len(like), device=like.device) >= self.dropout
        one = torch.randint(len(like), (num_sets, 1), device=like.device)
        return seen.scatter(1, one, True).to(like.dtype)
