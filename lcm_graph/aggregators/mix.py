"""Several monoids at once, of which a set function takes what it needs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from lcm_graph.aggregators.base import check_channels, check_features
from lcm_graph.aggregators.factor_choice import FactorChoice
from lcm_graph.aggregators.number_gates import NumberGates
from lcm_graph.aggregators.tree import TreeAggregation, check_loss_weight, check_training
from lcm_graph.monoids import (
    AbelianGroup,
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
from lcm_graph.monoids.reset import reset_modules
from lcm_graph.reduce import FoldPlan

COSTS = {"statistics": 2.0, "learned": 3.0, "sums": 5.0}
"""What a factor's open gate costs, if not 1: more for what is less at home on large sets. A limit
that is learned for the means of small sets is a few elements off on large ones, and the learned
operator is not associative. Sums cost most, since the group can add as well, and decides better
which of two counts is larger."""

SCALES = {"statistics": 32.0, "maxima": 16.0}
"""What outputs are multiplied by, if not by 1. Means and maxima of a few small numbers lie close
together, and what is to tell them apart would take long to grow steep enough."""

WARMUP, CHOICE, CALLS = 400, 500, 2048
"""Calls in training of the first phase, of the second, and of a training that suits these."""

NUMBER_WEIGHT = 1 / 1500
"""What a number's open gate costs, as a part of ``sparsity``."""


class MixAggregation(TreeAggregation):
    r"""A mix of exact monoids behind learned lifts, with a learned operator beside them.

    Statistics (mean and standard deviation, read by a small network), maxima, a learned abelian
    group, sums and a :class:`SlotSelection` of learned features; the first elements in learned
    orders, and rotations.

    What a task does not need is switched off altogether, so that it cannot disturb the answer where
    sets are larger than those it was trained on. Each factor has a gate, see :class:`FactorChoice`:
    for ``warmup`` calls in training all learn, in the next ``choice`` calls those close that are
    not missed, and what is left is learned to the end by itself. Once factors are chosen, each
    number that is handed out is closed if it is not needed, by a gate that costs a logarithm of
    itself.

    A factor is missed if the task's loss is greater without it by ``sparsity`` times its cost (see
    :data:`COSTS`). By default that is more than most losses are in all, and then only the one stays
    that is missed most, which is free: lower ``sparsity`` if the task needs several at once.

    Give training about twice as many calls as the first two phases take, or more, at a learning
    rate of 0.001 or more: by smaller steps nothing closes. :func:`plan_choices` divides a training
    of any length. Until the choice is over, evaluation sees all
    factors, as training never does, so keep the last epoch and not the best. A model that calls one
    mix several times in a step gets through the phases as many times as fast. Calls without
    gradients do not count, nor does reentrant checkpointing (``use_reentrant=True``).

    Weight decay is better kept from ``factor_choice.gates.logit`` and ``number_gates.log_gate``,
    whose 0 is an open gate. A gate that has closed stays closed, and a factor behind a closed gate
    is not computed: which are open is read in each call, but for compiled models.

    Args:
        in_channels: size of each element.
        hidden: features of the statistics and of the maxima.
        k: elements to keep in each learned order.
        heads: learned orders.
        clocks: rotations.
        learned: channels of the slot selection, of ``gcd(learned, 4)`` slots; 0 for none.
        group: channels of the abelian group; 0 for none.
        sums: features that are summed; 0 for none.
        sparsity: weight of the factors' gates in :meth:`regularization`, times their costs; those
            of single numbers weigh a 1500th of it. In units of the task's loss. 0: none closes.
        warmup: calls in training before the choice begins.
        choice: calls in training that it takes; 0: all factors stay.
        factor_dropout: probability that a set does not see a factor while warming up.
        clock_dropout: probability that a set does not see a clock, its cosine and its sine, in
            training, until the factors are chosen. Without, a decoder may learn an angle as the sum
            of two clocks', neither of which is a whole fraction of a turn, so that none snaps.
        order: see :class:`FoldAggregation`.
        cached: see :class:`FoldAggregation`.
        **training: see :class:`TreeAggregation`, for the learned operator.

    Raises:
        ValueError: a size is not a positive integer, ``sparsity``, ``warmup`` or ``choice`` is
            negative, or a probability is not in [0, 1).
    """

    gathers = True

    def __init__(
        self,
        in_channels: int,
        hidden: int = 64,
        *,
        k: int = 4,
        heads: int = 2,
        clocks: int = 32,
        learned: int = 32,
        group: int = 32,
        sums: int = 8,
        sparsity: float = 3.0,
        warmup: int = WARMUP,
        choice: int = CHOICE,
        factor_dropout: float = 0.5,
        clock_dropout: float = 0.2,
        order: str = "random",
        cached: bool = False,
        **training: Any,
    ) -> None:
        check_training(type(self).__name__, training)
        super().__init__(order, cached, **{"bracketing": "random", **training})
        self.in_channels = check_channels("in_channels", in_channels)
        check_channels("hidden", hidden)
        sparsity = check_loss_weight("sparsity", sparsity)
        warmup, choice = _calls("warmup", warmup), _calls("choice", choice)
        factor_dropout = _probability("factor_dropout", factor_dropout)
        self.clock_dropout = _probability("clock_dropout", clock_dropout)

        for name, size in (("learned", learned), ("group", group), ("sums", sums)):
            if type(size) is not int or size < 0:
                raise ValueError(
                    f"{name!r} must be a positive integer, or 0 for none (got {size!r})"
                )
        factors: dict[str, Monoid] = {
            "statistics": Lifted(_features(in_channels, hidden), Moments(hidden), in_channels),
            "maxima": Lifted(_features(in_channels, hidden), Max(hidden), in_channels),
            "first": Lifted(_Centred(), KeyedTopK(in_channels, k, heads), in_channels),
            "rotations": Rotation(in_channels, clocks),
        }
        if learned:
            slots = math.gcd(learned, 4)
            operator = SlotSelection(learned, slots)
            factors["learned"] = Lifted(_features(in_channels, learned), operator, in_channels)
        if group:
            lift = nn.Sequential(
                _Thresholds(in_channels, group), nn.Linear(group, group), nn.GELU()
            )
            factors["group"] = Lifted(lift, AbelianGroup(group), in_channels)
        if sums:
            factors["sums"] = Lifted(nn.Linear(in_channels, sums), Sum(sums), in_channels)
        self.names = tuple(factors)
        self.monoid = Product(*factors.values())
        # Without biases, an empty set's statistics, which are 0, read 0. Features have biases.
        self.read_statistics = nn.Sequential(
            nn.Linear(2 * hidden, hidden, bias=False),
            nn.GELU(),
            nn.Linear(hidden, 2 * hidden, bias=False),
        )
        costs = [COSTS.get(name, 1.0) for name in factors]
        self.factor_choice = FactorChoice(costs, sparsity, warmup, choice, factor_dropout)
        self.number_gates = NumberGates(self.out_channels)

    def plan_choice(self, calls: int) -> None:
        """Give the first two phases their share of all ``calls`` in training: what the defaults are
        of :data:`CALLS`, and one call at least. ``choice=0`` stays. Call it before the first call.

        Raises:
            ValueError: ``calls`` is not a positive integer.
        """
        check_channels("calls", calls)
        phases = self.factor_choice
        phases.warmup = max(1, WARMUP * calls // CALLS)
        if phases.choice:
            phases.choice = max(1, CHOICE * calls // CALLS)

    @property
    def sparsity(self) -> float:
        """Weight of open gates."""
        return self.factor_choice.weight

    @property
    def out_channels(self) -> int:
        """Features of an output."""
        return sum(self._widths)

    @property
    def _widths(self) -> list[int]:
        return [factor.out_channels or 0 for factor in self.monoid.factors]

    @property
    def gates(self) -> dict[str, bool]:
        """Which factors are open in evaluation."""
        return dict(zip(self.names, self.factor_choice.gates.is_open().tolist(), strict=True))

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self.monoid.reset_parameters()
        reset_modules(self.read_statistics)
        self.factor_choice.reset_parameters()
        self.number_gates.reset_parameters()

    def fold(self, x: Tensor, plan: FoldPlan, weight: Tensor | None) -> Tensor:
        check_features(x, self.in_channels, type(self).__name__)
        if self.training and torch.is_grad_enabled():
            self._note_call()
            if self.sparsity:
                numbers = NUMBER_WEIGHT * self.sparsity * self.number_gates.loss()
                has_chosen = self.factor_choice.has_chosen
                self.penalize(self.factor_choice.loss() + has_chosen * numbers)
        by_factor = self.factor_choice(plan.num_sets)
        by_number = self.number_gates()
        gates = self._over_numbers(by_factor) * by_number
        outputs = self._fold_open((by_factor > 0).any(0), x, plan, weight)
        # What is switched off is 0, also where it has become infinite.
        outputs = torch.where(gates > 0, self._scales(outputs), 0)
        gates = gates.to(outputs.dtype)
        parts = dict(zip(self.names, outputs.split(self._widths, dim=-1), strict=True))
        # A number that closes fades from what is read as well. A factor that is shut by half does
        # not: what is read of half a statistic is something else.
        fading = by_number[: self._widths[0]].tanh().to(outputs.dtype)
        parts["statistics"] = parts["statistics"] + self.read_statistics(
            fading * parts["statistics"]
        )
        if self.training and self.clock_dropout:
            parts["rotations"] = self._drop_clocks(parts["rotations"])
        return gates * torch.cat(list(parts.values()), dim=-1)

    def _over_numbers(self, by_factor: Tensor) -> Tensor:
        columns = by_factor.unsqueeze(-1).unbind(-2)
        spread = [gate.expand(-1, w) for gate, w in zip(columns, self._widths, strict=True)]
        return torch.cat(spread, dim=-1)

    def _scales(self, outputs: Tensor) -> Tensor:
        """``outputs``, as large as they are handed out behind open gates."""
        parts = zip(self.names, outputs.split(self._widths, dim=-1), strict=True)
        return torch.cat([SCALES.get(name, 1.0) * part for name, part in parts], dim=-1)

    def _drop_clocks(self, rotations: Tensor) -> Tensor:
        """Dropout of whole clocks, cosines with their sines, until factors are chosen."""
        both = rotations.unflatten(-1, (2, -1))
        seen = torch.rand_like(both[:, :1], requires_grad=False) >= self.clock_dropout
        scales = torch.where(self.factor_choice.has_chosen, 1, seen / (1 - self.clock_dropout))
        return (both * scales.to(both.dtype)).flatten(-2)

    @torch.no_grad()
    def _note_call(self) -> None:
        if torch._C._current_graph_task_id() != -1:
            return  # what activation checkpointing repeats in the backward pass does not count
        self.factor_choice.count_call()
        self.number_gates.close()

    def _fold_open(
        self, opened: Tensor, x: Tensor, plan: FoldPlan, weight: Tensor | None
    ) -> Tensor:
        """All outputs; 0 for factors that are switched off, which are not computed."""
        if torch.compiler.is_compiling():  # what is computed may not hang on numbers there
            return self.fold_with(self.monoid, x, plan, weight)
        is_open = opened.tolist()
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
            f"warmup={self.factor_choice.warmup}, choice={self.factor_choice.choice}, "
            f"factor_dropout={self.factor_choice.dropout}, clock_dropout={self.clock_dropout}"
            f"{self._settings()})"
        )


def plan_choices(model: nn.Module, calls: int) -> None:
    """:meth:`MixAggregation.plan_choice` for all mixes of a model, if it has any.

    Args:
        model: calls each of them once a step.
        calls: steps of the training.
    """
    for module in model.modules():
        if isinstance(module, MixAggregation):
            module.plan_choice(calls)


def _calls(name: str, value: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name!r} must be a whole number from 0 (got {value!r})")
    return value


def _probability(name: str, value: float) -> float:
    if not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ValueError(f"{name!r} must be in [0, 1) (got {value!r})")
    return float(value)


def _features(in_channels: int, channels: int) -> nn.Module:
    return nn.Sequential(nn.Linear(in_channels, channels), nn.GELU(), nn.Linear(channels, channels))


class _Thresholds(nn.Linear):
    """Maps that change sign among elements of size about 1, in many places."""

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=math.sqrt(2))
        nn.init.normal_(self.bias, std=math.sqrt(self.in_features))


class _Centred(nn.Module):
    """Bits around 0: zeros are as far from it as ones, and only what is not there is 0.

    What is answered to an element of zeros would else hang on the next layer's biases alone, and
    training on small sets need not show one.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x - 0.5
