"""What the aggregators that fold along trees have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from lcm_graph.aggregators.base import FoldAggregation
from lcm_graph.monoids import Monoid, State
from lcm_graph.reduce import FoldPlan, distributed_reduce, segment_reduce
from lcm_graph.regularizers import associativity_loss, commutativity_loss

BRACKETINGS = ("canonical", "random")
_TRAINING = ("bracketing", "associativity", "commutativity")


class Shards:
    """Which processes hold parts of the sets; copies and pickles have lost a group of their own.

    Args:
        group: see :func:`~lcm_graph.reduce.distributed_reduce`.
    """

    def __init__(self, group: dist.ProcessGroup | DeviceMesh | None) -> None:
        self._group = group
        self._is_lost = False

    @property
    def group(self) -> dist.ProcessGroup | DeviceMesh | None:
        """RuntimeError if it was lost."""
        if self._is_lost:
            raise RuntimeError(
                "the process group of a sharded aggregator is not copied with it: call "
                "shard(model, group) on the copy"
            )
        return self._group

    def __getstate__(self) -> dict[str, Any]:
        return {"_group": None, "_is_lost": self._is_lost or self._group is not None}


class TreeAggregation(FoldAggregation):
    """Base of the aggregators that fold with a monoid.

    What helps an operator that is not associative to generalise is done while training alone, in
    evaluation mode the trees are always the canonical ones. The losses are handed out by
    :meth:`regularization`.

    Args:
        order: see :class:`FoldAggregation`.
        cached: see :class:`FoldAggregation`.
        bracketing: ``"canonical"`` trees, or ``"random"`` ones while training, drawn anew in each
            call, up to as deep as a set is large (see :meth:`FoldPlan.bracketed`).
        associativity: weight of :func:`~lcm_graph.regularizers.associativity_loss`.
        commutativity: weight of :func:`~lcm_graph.regularizers.commutativity_loss`.

    Raises:
        ValueError: there is no such order or bracketing, or a weight is negative.
    """

    def __init__(
        self,
        order: str = "given",
        cached: bool = False,
        *,
        bracketing: str = "canonical",
        associativity: float = 0.0,
        commutativity: float = 0.0,
    ) -> None:
        super().__init__(order, cached)
        if bracketing not in BRACKETINGS:
            raise ValueError(
                f"'bracketing' must be one of {', '.join(BRACKETINGS)} (got {bracketing!r})"
            )
        self.bracketing = bracketing
        self.shards: Shards | None = None  # see shard
        self.associativity = check_loss_weight("associativity", associativity)
        self.commutativity = check_loss_weight("commutativity", commutativity)

    def fold_with(self, monoid: Monoid, x: Tensor, plan: FoldPlan, weight: Tensor | None) -> Tensor:
        """Lift elements ``x [n, F]``, fold them, lower to ``[num_sets, out_channels]``."""
        states = monoid.lift(x)
        if weight is not None:
            states = monoid.weigh(states, weight)
        if self.training:
            if self.bracketing == "random" and not monoid.associative:
                plan = self._planned(FoldPlan.bracketed, plan)
            if torch.is_grad_enabled():
                self._penalize_laws(monoid, states, plan)
        if self.shards is not None:
            group = self.shards.group
            return monoid.lower(distributed_reduce(monoid, states, group=group, plan=plan))
        return monoid.lower(segment_reduce(monoid, states, plan=plan))

    def _penalize_laws(self, monoid: Monoid, states: State, plan: FoldPlan) -> None:
        monoid = monoid.folds_as
        if monoid.factors:
            for factor, state in zip(monoid.factors, states, strict=True):
                self._penalize_laws(factor, state, plan)
            return
        if self.associativity and not monoid.associative:
            self.penalize(self.associativity * associativity_loss(monoid, states, plan))
        if self.commutativity and not monoid.commutative:
            self.penalize(self.commutativity * commutativity_loss(monoid, states, plan))

    def _settings(self) -> str:
        """What differs from the defaults, for ``repr``."""
        settings = "" if self.order == "given" else f", order={self.order!r}"
        if self.bracketing != "canonical":
            settings += f", bracketing={self.bracketing!r}"
        for name in ("associativity", "commutativity"):
            if getattr(self, name):
                settings += f", {name}={getattr(self, name)}"
        return settings


def check_training(name: str, training: Mapping[str, object]) -> None:
    """TypeError, in the name of the class called, for keywords that :class:`TreeAggregation` has
    not."""
    for keyword in training:
        if keyword not in _TRAINING:
            raise TypeError(
                f"{name} got an unexpected keyword {keyword!r}; for training it takes "
                f"{', '.join(_TRAINING)}"
            )


def check_loss_weight(name: str, weight: float) -> float:
    """Returns ``weight``; ValueError naming the argument if it is not a number from 0 up."""
    if not isinstance(weight, (int, float)) or not 0 <= weight < float("inf"):
        raise ValueError(f"'{name}' must be a number from 0 up, a loss's weight (got {weight!r})")
    return weight
