"""Several monoids at once, of which a set function takes what it needs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from lcm_graph.aggregators.base import check_channels, check_features
from lcm_graph.aggregators.tree import TreeAggregation, check_loss_weight, check_training
from lcm_graph.monoids import (
    KeyedTopK,
    Lifted,
    Max,
    Moments,
    Monoid,
    Product,
    Rotation,
    SlotSelection,
    Sum,
)
from lcm_graph.reduce import FoldPlan

COSTS = {"sums": 5.0, "learned": 2.0}
"""What a factor's open gate costs, if not 1."""

SCALES = {"statistics": 32.0, "maxima": 16.0}
"""What outputs are multiplied by: means and maxima of a few small numbers lie close together, and
what is to tell them apart would take long to grow steep enough."""

STEEPNESS, CLOSED = 10.0, 3e-3
"""A gate is ``exp(STEEPNESS · log_gate)``, and 0 below ``CLOSED``. So a step of Adam changes it by
a few per cent, wherever it is: in steps of one size, a gate that is needed and nearly closed, since
the next layer makes up for it, would be closed by accident."""


KNEE, KNEE_OF_MOST_OPEN = 0.02, 1.0
"""About where a gate's price turns from a logarithm to a line."""


class MixAggregation(TreeAggregation):
    r"""A mix of exact monoids behind learned lifts, with a learned operator beside them.

    Statistics (mean and standard deviation), maxima, sums and a :class:`SlotSelection` of learned
    features; the first elements in learned orders, and rotations. Each factor has a gate, and so
    has each number that it hands out; what open gates cost is a regularisation loss. What a task
    does not need is switched off altogether, so that it cannot disturb the answer where sets are
    larger than those it was trained on. Weight decay is better kept from ``log_gate`` and
    ``log_channel_gate``, whose 0 is an open gate. A gate that has closed stays closed, and a factor
    behind a closed gate costs no time: which are open is read in each call, but for compiled
    models, which compute all factors. Most costs what is least at home there: sums, which grow with
    the set, and the learned operator, which is not associative (see :data:`COSTS`).

    Args:
        in_channels: size of each element.
        hidden: features of the statistics and of the maxima.
        k: elements to keep in each learned order.
        heads: learned orders.
        clocks: rotations.
        learned: channels of the slot selection, of ``gcd(learned, 4)`` slots; 0 for none.
        sums: features that are summed; 0 for none.
        sparsity: weight of the factors' gates in :meth:`regularization`, times their costs; those
            of single numbers weigh a 300th of it.
        warmup: calls in training before that weight counts, so that factors can show what they are
            good for before their gates close; 0 for none.
        clock_dropout: probability that a set loses sight of a clock, its cosine and its sine,
            during these calls. Without, a decoder may learn an angle as the sum of two clocks',
            neither of which is a whole fraction of a turn, so that none snaps.
        order: see :class:`FoldAggregation`.
        cached: see :class:`FoldAggregation`.
        **training: see :class:`TreeAggregation`, for the learned operator.

    Raises:
        ValueError: a size is not a positive integer, or ``sparsity`` or ``warmup`` is negative.
    """

    gathers = True
    training_calls: Tensor
    closed: Tensor
    channel_closed: Tensor

    def __init__(
        self,
        in_channels: int,
        hidden: int = 64,
        *,
        k: int = 4,
        heads: int = 2,
        clocks: int = 32,
        learned: int = 32,
        sums: int = 8,
        sparsity: float = 3e-2,
        warmup: int = 1000,
        clock_dropout: float = 0.2,
        order: str = "random",
        cached: bool = False,
        **training: Any,
    ) -> None:
        check_training(type(self).__name__, training)
        super().__init__(order, cached, **{"bracketing": "random", **training})
        self.in_channels = check_channels("in_channels", in_channels)
        check_channels("hidden", hidden)
        self.sparsity = check_loss_weight("sparsity", sparsity)
        if not isinstance(warmup, int) or isinstance(warmup, bool) or warmup < 0:
            raise ValueError(f"'warmup' must be a whole number from 0 (got {warmup!r})")
        self.warmup = warmup
        if not isinstance(clock_dropout, (int, float)) or not 0 <= clock_dropout < 1:
            raise ValueError(f"'clock_dropout' must be in [0, 1) (got {clock_dropout!r})")
        self.clock_dropout = float(clock_dropout)

        for name, size in (("learned", learned), ("sums", sums)):
            if type(size) is not int or size < 0:
                raise ValueError(
                    f"{name!r} must be a positive integer, or 0 for none (got {size!r})"
                )
        factors: dict[str, Monoid] = {
            "statistics": Lifted(_features(in_channels, hidden), Moments(hidden), in_channels),
            "maxima": Lifted(_features(in_channels, hidden), Max(hidden), in_channels),
            "first": KeyedTopK(in_channels, k, heads),
            "rotations": Rotation(in_channels, clocks),
        }
        if learned:
            slots = math.gcd(learned, 4)
            operator = SlotSelection(learned, slots)
            factors["learned"] = Lifted(_features(in_channels, learned), operator, in_channels)
        if sums:
            factors["sums"] = Lifted(nn.Linear(in_channels, sums), Sum(sums), in_channels)
        self.names = tuple(factors)
        self.monoid = Product(*factors.values())
        self.log_gate = nn.Parameter(torch.zeros(len(factors)))
        self.log_channel_gate = nn.Parameter(torch.zeros(self.out_channels))
        self.register_buffer("training_calls", torch.zeros((), dtype=torch.long))
        # Closed for good: weight decay would open a gate again, by pulling its logarithm to 0.
        self.register_buffer("closed", torch.zeros(len(factors), dtype=torch.bool))
        self.register_buffer("channel_closed", torch.zeros(self.out_channels, dtype=torch.bool))

    @property
    def out_channels(self) -> int:
        """Features of an output."""
        return sum(self._widths)

    @property
    def _widths(self) -> list[int]:
        return [factor.out_channels or 0 for factor in self.monoid.factors]

    @property
    def gates(self) -> dict[str, float]:
        """How far each factor is open; 0 if it is switched off."""
        gates = _opening(self.log_gate.detach(), self.closed)
        return dict(zip(self.names, gates.tolist(), strict=True))

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self.monoid.reset_parameters()
        nn.init.zeros_(self.log_gate)
        nn.init.zeros_(self.log_channel_gate)
        self.training_calls.zero_()
        self.closed.zero_()
        self.channel_closed.zero_()

    def fold(self, x: Tensor, plan: FoldPlan, weight: Tensor | None) -> Tensor:
        check_features(x, self.in_channels, type(self).__name__)
        by_factor = _opening(self.log_gate, self.closed)
        by_channel = _opening(self.log_channel_gate, self.channel_closed)
        if self.training and torch.is_grad_enabled():
            self._note_closed(by_factor, by_channel)
            if self.sparsity:
                is_warm = self.training_calls > self.warmup
                costs = by_factor.new_tensor([COSTS.get(name, 1.0) for name in self.names])
                total = costs @ _prices(by_factor) + _price(by_channel).sum() / 300
                self.penalize(self.sparsity * is_warm * total)
        shared = [gate.expand(w) for gate, w in zip(by_factor, self._widths, strict=True)]
        gates = torch.cat(shared) * by_channel
        outputs = self._fold_open(by_factor, x, plan, weight)
        if self.training and self.clock_dropout:
            outputs = outputs * self._clocks_seen(outputs)
        scales = [
            gates.new_full((w,), SCALES.get(name, 1.0))
            for name, w in zip(self.names, self._widths, strict=True)
        ]
        # What is switched off is 0, also where it has become infinite.
        return gates * torch.cat(scales) * torch.where(gates > 0, outputs, 0)

    def _clocks_seen(self, outputs: Tensor) -> Tensor:
        """Dropout of whole clocks while warming up: 0 or 1 / (1 - probability), and 1 elsewhere."""
        chance = outputs.new_tensor(self.clock_dropout) * (self.training_calls <= self.warmup)
        place = self.names.index("rotations")
        start, width = sum(self._widths[:place]), self._widths[place]
        seen = torch.rand(len(outputs), width // 2, device=outputs.device) >= chance
        factors = torch.ones_like(outputs, requires_grad=False)
        factors[:, start : start + width] = (seen / (1 - chance)).repeat(1, 2)
        return factors

    @torch.no_grad()
    def _note_closed(self, by_factor: Tensor, by_channel: Tensor) -> None:
        if torch._C._current_graph_task_id() != -1:
            return  # what activation checkpointing repeats in the backward pass does not count
        self.training_calls += 1
        self.closed.copy_(by_factor == 0)
        self.channel_closed.copy_(by_channel == 0)

    def _fold_open(self, gates: Tensor, x: Tensor, plan: FoldPlan, weight: Tensor | None) -> Tensor:
        """All outputs; 0 for factors that are switched off, which are not computed."""
        if torch.compiler.is_compiling():  # what is computed may not hang on numbers there
            return self.fold_with(self.monoid, x, plan, weight)
        is_open = (gates > 0).tolist()
        if all(is_open):
            return self.fold_with(self.monoid, x, plan, weight)
        factors = list(zip(self.monoid.factors, self._widths, is_open, strict=True))
        closed = [
            parameter for f, _, opened in factors if not opened for parameter in f.parameters()
        ]
        # Their gradient is 0, and not none: distributed training asks for that of each parameter.
        nothing = torch.cat([tensor.flatten()[:0] for tensor in (x, *closed)]).sum()
        parts = [nothing.expand(plan.num_sets, width) for _, width, _ in factors]
        if any(is_open):
            monoid = Product(*(factor for factor, _, opened in factors if opened))
            widths = [width for _, width, opened in factors if opened]
            folded = iter(self.fold_with(monoid, x, plan, weight).split(widths, dim=-1))
            parts = [
                next(folded) if opened else part
                for part, opened in zip(parts, is_open, strict=True)
            ]
        return torch.cat(parts, dim=-1)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.monoid}, sparsity={self.sparsity}, "
            f"warmup={self.warmup}, clock_dropout={self.clock_dropout}{self._settings()})"
        )


def _price(gate: Tensor, knee: float | Tensor = KNEE) -> Tensor:
    """0 for a closed gate: a logarithm down to ``knee``, a line below; 1 for 1 at :data:`KNEE`.

    A price in proportion would fall with the gate, and the less that is left of one, the slower it
    would close (Candès et al., "Enhancing Sparsity by Reweighted l1 Minimization", 2008, eq. 10).
    """
    return torch.log1p(gate / knee) / math.log1p(1 / KNEE)


def _prices(gates: Tensor) -> Tensor:
    """Of each factor's gate. The pressure on the most open one fades as it closes.

    Under a logarithm's steady pressure the last open gate would close by accident, once a task is
    solved and its decoder makes up for any scale; under that of a line all the way, one that has
    become wide open would close faster than the decoder can follow.
    """
    place = torch.arange(len(gates), device=gates.device)
    knees = torch.where(place == gates.argmax(), KNEE_OF_MOST_OPEN, KNEE)
    return _price(gates, knees.to(gates.dtype))


def _opening(log_gate: Tensor, closed: Tensor) -> Tensor:
    """The gate, without a gradient where it is closed."""
    gate = (STEEPNESS * log_gate).exp()
    return torch.where((gate > CLOSED) & ~closed, gate, 0)


def _features(in_channels: int, channels: int) -> nn.Module:
    return nn.Sequential(nn.Linear(in_channels, channels), nn.GELU(), nn.Linear(channels, channels))
