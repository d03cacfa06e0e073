"""States of slots, each filled anew from the slots of both elements."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from lcm_graph.monoids.base import check_positive
from lcm_graph.monoids.learned import LearnedMonoid
from lcm_graph.monoids.mean import count_dtype


class SlotSelection(LearnedMonoid):
    r"""Each slot of a pair picks, softly, among the slots of both elements.

    A state is ``slots`` vectors. Slot :math:`i` of a pair weighs the slots of :math:`a` and
    :math:`b` by one softmax over all of them:

    .. math::
        S(a, b) = \tau\,(W_2\, \mathrm{gelu}(W_1 [a, b] + w_1) + w_2)
            \in \mathbb{R}^{\text{slots} \times \text{slots}}, \qquad
        (a \oplus b)_i = \sum_j \pi_{ij}\, a_j + \sum_j \rho_{ij}\, b_j, \qquad
        (\pi, \rho)_i = \mathrm{softmax}\bigl(S(a, b)_i, S(b, a)_i\bigr),

    with a learned sharpness :math:`\tau`. So a state is compared as a whole, but nothing in it is
    computed anew: where the softmax has become sharp, slots are handed on as they came, through any
    number of levels, and what the operator was trained on it meets again in a set of any size.
    Slots stay in the convex hull of the elements' slots, and ``combine(a, a)`` mixes those of ``a``
    alone. Commutative bit for bit, not associative.

    Memory slots that attend to memory and input are Santoro et al.'s ("Relational recurrent neural
    networks", 2018, Sec. 3.2); here both sides are memories, scores see both of them whole, and
    there are no value maps.

    A pair costs ``4 channels · hidden + 2 hidden · slots² + 2 slots · channels`` multiply-adds.

    Args:
        channels: size of an element, of a state and of an output.
        slots: vectors in a state; divides ``channels``.
        hidden: size of the perceptron's hidden layer (default: ``4 * channels``).

    Raises:
        ValueError: a size is not a positive integer, or ``slots`` does not divide ``channels``.
    """

    def __init__(self, channels: int, slots: int = 4, hidden: int | None = None) -> None:
        super().__init__(channels)
        self.slots = check_positive("slots", slots)
        if channels % slots:
            raise ValueError(
                f"'slots' must divide 'channels' = {channels} (got {slots}); "
                f"take lambda channels: SlotSelection(channels, slots={math.gcd(channels, slots)}) "
                "for an operator, or other channels"
            )
        hidden = 4 * channels if hidden is None else check_positive("hidden", hidden)
        self.hidden = nn.Linear(2 * channels, hidden)
        # Of a single slot it would cancel in the softmax.
        self.score = nn.Linear(hidden, slots * slots, bias=slots > 1)
        self.log_sharpness = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self.hidden.reset_parameters()
        self.score.reset_parameters()
        nn.init.ones_(self.log_sharpness)

    def __repr__(self) -> str:
        return (
            f"SlotSelection({self.channels}, slots={self.slots}, hidden={self.hidden.out_features})"
        )

    def operator(self, a: Tensor, b: Tensor) -> Tensor:
        own, other = self._scores(a, b), self._scores(b, a)
        # A softmax and what it picks are not to be rounded: at each level the error would grow.
        with torch.autocast(a.device.type, enabled=False):
            dtype = count_dtype(a.dtype)
            sharpness = self.log_sharpness.to(dtype).exp()
            score_a, score_b = sharpness * own.to(dtype), sharpness * other.to(dtype)
            # One softmax over both, in which neither comes first: swapping changes no rounding.
            highest = torch.maximum(score_a.amax(2, keepdim=True), score_b.amax(2, keepdim=True))
            share_a = (score_a - highest.detach()).exp()
            share_b = (score_b - highest.detach()).exp()
            total = share_a.sum(2, keepdim=True) + share_b.sum(2, keepdim=True)
            slots_a, slots_b = self._split(a.to(dtype)), self._split(b.to(dtype))
            picked = (share_a / total) @ slots_a + (share_b / total) @ slots_b
            return picked.flatten(1).to(a.dtype)

    def _scores(self, own: Tensor, other: Tensor) -> Tensor:
        """For each slot of the pair, those of ``own``: ``[n, slots, slots]``."""
        scores: Tensor = self.score(gelu(self.hidden(torch.cat([own, other], dim=-1))))
        return scores.unflatten(-1, (self.slots, self.slots))

    def _split(self, x: Tensor) -> Tensor:
        """``[n, slots, channels / slots]``"""
        return x.unflatten(-1, (self.slots, x.size(-1) // self.slots))
