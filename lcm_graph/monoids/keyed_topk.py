"""The k elements that come first in a learned order."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from lcm_graph.monoids.base import Monoid, check_positive
from lcm_graph.monoids.mean import count_dtype
from lcm_graph.monoids.segment import plus_log_weight, times_weight

SCALE = 8.0
"""So that a step of the optimiser changes a weight by a few per cent."""


class Ranked(NamedTuple):
    """The first elements of each order, first to last; what is not there has the key +inf."""

    keys: Tensor  # [n, slots, heads], float32 or wider
    values: Tensor  # [n, slots, heads, channels]


class KeyedTopK(Monoid):
    r"""Of each of several learned orders, the first ``k`` elements, whole.

    Head :math:`h` orders elements by the key :math:`\sum_c \sinh(8 a_{hc})\, x_c`. The hyperbolic
    sine lets weights span many orders of magnitude, as an order of binary numbers by their bits
    needs, and learn on a relative scale. Unlike :class:`~lcm_graph.monoids.TopK`, which takes each
    channel's extremes by themselves, this one returns elements as they came: nothing has to be read
    out of a number's magnitude. For ``k = 2`` and the right order it is the monoid of the second
    minimum (Ong & Veličković 2022, Sec. 2.2).

    Evaluation picks exactly. While training, ``lower`` blends each pick with the ``spare`` next in
    line, :math:`\mathrm{softmax}_i(-\beta\, \mathrm{asinh} |s_j - s_i|)` for the keys :math:`s`
    (after Prillo & Eisenschlos, "SoftSort", ICML 2020, with distances on a scale that small and
    large differences share), from which the order learns.

    The laws hold but for elements whose keys tie; of those, the left comes first.

    Args:
        channels: features of an element.
        k: elements to return of each head.
        heads: orders.
        spare: further elements kept to learn from.

    ``lower`` gives ``[n, k * heads * channels]``, 0 for what is not there.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, channels: int, k: int = 2, heads: int = 1, spare: int = 2) -> None:
        super().__init__(check_positive("channels", channels))
        self.k = check_positive("k", k)
        self.heads = check_positive("heads", heads)
        if not isinstance(spare, int) or spare < 0:
            raise ValueError(f"'spare' must be a whole number from 0 (got {spare!r})")
        self.spare = spare
        self.weight = nn.Parameter(torch.empty(heads, channels))
        self.sharpness = nn.Parameter(torch.empty(heads))
        self.reset_parameters()

    @property
    def out_channels(self) -> int:
        return self.k * self.weight.numel()

    @property
    def slots(self) -> int:
        """Elements kept of each head."""
        return self.k + self.spare

    def lift(self, x: Tensor) -> Ranked:
        self._check_elements(x)
        n, channels = x.shape
        dtype = count_dtype(x.dtype)
        with torch.autocast(x.device.type, enabled=False):  # an order knows no rounding
            key = linear(x.to(dtype), (SCALE * self.weight.to(dtype)).sinh())
        keys = key.new_full((n, self.slots, self.heads), torch.inf)
        keys[:, 0] = key
        values = x.new_zeros(n, self.slots, self.heads, channels)
        values[:, 0] = x.unsqueeze(1)
        return Ranked(keys, values)

    def combine(self, left: Ranked, right: Ranked) -> Ranked:
        keys = torch.cat([left.keys, right.keys], dim=1)
        values = torch.cat([left.values, right.values], dim=1)
        order = _nan_first(keys).argsort(dim=1, stable=True)[:, : self.slots]
        return Ranked(
            keys.gather(1, order),
            values.gather(1, order.unsqueeze(-1).expand(*order.shape, values.size(-1))),
        )

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> Ranked:
        dtype = self.weight.dtype if dtype is None else dtype
        device = self.weight.device if device is None else device
        shape = (n, self.slots, self.heads)
        return Ranked(
            torch.full(shape, torch.inf, dtype=count_dtype(dtype), device=device),
            torch.zeros(*shape, self.weight.size(1), dtype=dtype, device=device),
        )

    def lower(self, state: Ranked) -> Tensor:
        keys, values = state
        if not self.training:
            return values[:, : self.k].flatten(1)
        there = keys != torch.inf
        keys = keys.masked_fill(~there, 0)
        distance = (keys[:, : self.k, None] - keys[:, None]).abs().asinh()
        logits = -self.sharpness.exp() * distance
        both = there[:, : self.k, None] & there[:, None]
        own = torch.eye(self.slots, dtype=torch.bool, device=keys.device)[: self.k, :, None]
        share = logits.masked_fill(~(both | own), -torch.inf).softmax(2)  # [n, k, slots, heads]
        return torch.einsum("njih,nihc->njhc", share.to(values.dtype), values).flatten(1)

    def segment(self, state: Ranked, index: Tensor, dim_size: int) -> Ranked:
        _, slots, heads = state.keys.shape
        keys = state.keys.flatten(0, 1)
        values = state.values.flatten(0, 1)
        owner = index.repeat_interleave(slots)
        found = self.identity(dim_size, dtype=values.dtype, device=keys.device)
        made_keys, made_values = [], []
        for head in range(heads):
            by_key = _nan_first(keys[:, head]).argsort(stable=True)
            rows = by_key[owner[by_key].argsort(stable=True)]
            sets = owner[rows]
            start = torch.searchsorted(sets, torch.arange(dim_size, device=sets.device))
            rank = torch.arange(len(rows), device=sets.device) - start[sets]
            kept = (rank < slots).nonzero().flatten()
            rows, place = rows[kept], sets[kept] * slots + rank[kept]
            made_keys.append(
                found.keys[:, :, head].flatten().index_copy(0, place, keys[rows, head])
            )
            made_values.append(
                found.values[:, :, head].flatten(0, 1).index_copy(0, place, values[rows, head])
            )
        return Ranked(
            torch.stack(made_keys, -1).view(dim_size, slots, heads),
            torch.stack(made_values, 1).unflatten(0, (dim_size, slots)),
        )

    def weigh(self, state: Ranked, weight: Tensor) -> Ranked:
        # An element half there is half as large and comes later.
        return Ranked(-plus_log_weight(-state.keys, weight), times_weight(state.values, weight))

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=2 / SCALE)
        nn.init.zeros_(self.sharpness)

    def __repr__(self) -> str:
        return f"KeyedTopK({self.channels}, k={self.k}, heads={self.heads}, spare={self.spare})"


def _nan_first(keys: Tensor) -> Tensor:
    """Keys to sort by: a NaN is to be seen, not to get lost behind what is not there."""
    return torch.where(keys.isnan(), -torch.inf, keys.detach())
