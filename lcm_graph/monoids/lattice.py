"""Joins and meets of learned tropical maps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lcm_graph.monoids.base import Monoid, check_positive
from lcm_graph.monoids.segment import plus_log_weight, segment_max


class Lattice(Monoid):
    r"""Joins (maxima) over a set of meets over features, and meets (minima) of joins.

    With learned W, the first half of the outputs (the larger, if their number is odd) and the
    second are

    .. math::
        y_i = \max_x \min_j (x_j + W_{ij}) \qquad\text{and}\qquad y_i = \min_x \max_j (x_j + W_{ij})

    With thresholds -W, the former is positive where *some* element exceeds *all* thresholds, the
    latter where *every* element exceeds *one*. The maps of elements are matrix products of tropical
    algebra (Butkovič 2010, "Max-linear systems"): min-plus below the maximum over the set, max-plus
    below the minimum. The other way round would be no gain: a max-plus map commutes with maxima,
    so it might as well be applied to what :class:`Max` answers.

    Idempotent: an element that is there twice counts once. Each output is increasing in every
    feature. An empty set answers 0.

    The state ``[n, channels]`` holds the joins and the negated meets, so the fold is a maximum; it
    has the dtype of the elements and parameters. The gradient of an output is shared among elements
    that tie; of features that tie within an element, one gets it.

    Args:
        channels: features of an element and of an output.

    Raises:
        ValueError: ``channels`` is not a positive integer.
    """

    idempotent = True

    def __init__(self, channels: int) -> None:
        super().__init__(check_positive("channels", channels))
        self.joins = channels - channels // 2
        self.weight = nn.Parameter(torch.empty(channels, channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight)

    def lift(self, x: Tensor) -> Tensor:
        self._check_elements(x)
        # Which feature decides: one output at a time, since all at once are n * channels².
        known, weight = x.detach(), self.weight.detach()
        which = torch.stack(
            [
                ((known + row).min(1) if i < self.joins else (known + row).max(1)).indices
                for i, row in enumerate(weight)
            ],
            dim=1,
        )
        channels = x.size(1)
        entry = which + channels * torch.arange(channels, device=x.device)
        chosen = self.weight.flatten().index_select(0, entry.flatten()).view_as(which)
        return self._negate_meets(x.gather(1, which) + chosen)

    def combine(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.maximum(left, right)

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> Tensor:
        dtype = self.weight.dtype if dtype is None else dtype
        device = self.weight.device if device is None else device
        return torch.full(self._identity_shape(n), -torch.inf, dtype=dtype, device=device)

    def lower(self, state: Tensor) -> Tensor:
        return self._negate_meets(state).masked_fill(state == -torch.inf, 0)

    def segment(self, state: Tensor, index: Tensor, dim_size: int) -> Tensor:
        return segment_max(state, index, dim_size)

    def weigh(self, state: Tensor, weight: Tensor) -> Tensor:
        return plus_log_weight(state, weight)

    def _negate_meets(self, x: Tensor) -> Tensor:
        joins, meets = x.tensor_split([self.joins], dim=1)
        return torch.cat([joins, -meets], dim=1)
