"""Summaries of clusters of keys, which stand for them as one pseudo-token."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lcm_graph.attention.states.softmax_attention import AttentionState
from lcm_graph.monoids import Monoid
from lcm_graph.monoids.base import check_positive
from lcm_graph.monoids.mean import count_dtype, divide
from lcm_graph.monoids.segment import segment_sum, times_weight
from lcm_graph.monoids.state import leaves, map_state


class ClusterState(NamedTuple):
    """Sums over a cluster's keys and values; the last two are ``None`` at order 1."""

    size: Tensor  # [n], float32 or wider: number of keys
    keys: Tensor  # [n, key_channels]: Σ k
    values: Tensor  # [n, channels]: Σ v
    key_products: Tensor | None  # [n, key_channels, key_channels]: Σ k kᵀ
    value_products: Tensor | None  # [n, key_channels, channels]: Σ k vᵀ


class ClusterSummary(Monoid):
    r"""Number, keys and values of a cluster, summed: attention to it needs no more.

    A query sees the cluster as one key, the mean :math:`\bar k`, that counts N times. With
    ``order=2`` it also sees how keys scatter about their mean (:math:`\Sigma`) and go along with
    values (:math:`\Gamma`), as in the second-order expansion of :math:`\sum_j e^{q k_j} v_j`:

    .. math::
        L = q\bar k + \log N + \tfrac12 q^T \Sigma q, \quad o = \bar v + \Gamma^T q.

    This is exact for infinitely many keys that are normally distributed, and to second order for
    all. But of N keys none lies further than some :math:`\sqrt{2 \log N}` deviations from the mean,
    where a query that is far out would seek them, so with :math:`\sigma^2 = q^T \Sigma q`, from
    :math:`\sigma^2 = 2 \log N` on,

    .. math::
        L = q\bar k + \sigma \sqrt{2 \log N}, \quad
        o = \bar v + \Gamma^T q \sqrt{2 \log N} / \sigma.

    Order 2 takes ``key_channels * (key_channels + channels)`` numbers a cluster: more than its keys
    and values, of clusters of fewer than ``key_channels / 2`` keys.

    Args:
        key_channels: features of a key.
        channels: features of a value.
        order: 1 or 2, see above.

    An element is key and value side by side, ``[n, key_channels + channels]``, or see :meth:`lift`.
    ``lower`` gives the sums flattened; :meth:`read` answers queries. Sums are kept in the elements'
    dtype: lift float32 where many are narrower. The products of order 2 cancel where keys are far
    from 0 and near each other: subtract a common key first, which adds the same number to all
    logits of a query.

    Source of the bound: Derrida, "Random-energy model" (1981), whose states freeze there.
    """

    invertible = True
    additive = True

    def __init__(self, key_channels: int, channels: int, order: int = 1) -> None:
        self.key_channels = check_positive("key_channels", key_channels)
        self.value_channels = check_positive("channels", channels)
        if order not in (1, 2):
            raise ValueError(f"'order' must be 1 or 2 (got {order!r})")
        self.order = order
        super().__init__(key_channels + channels)

    @property
    def out_channels(self) -> int:
        sums = 1 + self.key_channels + self.value_channels
        if self.order == 2:
            sums += self.key_channels * (self.key_channels + self.value_channels)
        return sums

    def lift(self, x: Tensor, values: Tensor | None = None) -> ClusterState:
        """Turn elements into states.

        Args:
            x: floating point ``[n, key_channels + channels]``; or keys ``[n, key_channels]``, if
                ``values`` are given.
            values: ``[n, channels]``.

        Raises:
            ValueError: a shape is another one, or ``x`` is not floating point.
        """
        if values is None:
            self._check_elements(x)
            x, values = x.tensor_split([self.key_channels], dim=1)
        self._check_floating(x)
        n = x.size(0) if x.dim() else 0
        if x.shape != (n, self.key_channels) or values.shape != (n, self.value_channels):
            raise ValueError(
                f"{self} takes keys {[n, self.key_channels]} and values "
                f"{[n, self.value_channels]} (got {list(x.shape)} and {list(values.shape)})"
            )
        size = x.new_ones(1, dtype=count_dtype(x.dtype)).expand(n)
        key_products = value_products = None
        if self.order == 2:
            key_products = x.unsqueeze(-1) * x.unsqueeze(-2)
            value_products = x.unsqueeze(-1) * values.unsqueeze(-2)
        return ClusterState(size, x, values, key_products, value_products)

    def combine(self, left: ClusterState, right: ClusterState) -> ClusterState:
        return map_state(torch.add, left, right)

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> ClusterState:
        keys = torch.zeros(n, self.key_channels, dtype=dtype, device=device)
        key_products = value_products = None
        if self.order == 2:
            key_products = keys.new_zeros(n, self.key_channels, self.key_channels)
            value_products = keys.new_zeros(n, self.key_channels, self.value_channels)
        return ClusterState(
            keys.new_zeros(n, dtype=count_dtype(keys.dtype)),
            keys,
            keys.new_zeros(n, self.value_channels),
            key_products,
            value_products,
        )

    def lower(self, state: ClusterState) -> Tensor:
        sums = (state.size.to(state.keys.dtype), *leaves(state)[1:])
        return torch.cat([one.flatten(1) if one.dim() > 1 else one.unsqueeze(1) for one in sums], 1)

    def segment(self, state: ClusterState, index: Tensor, dim_size: int) -> ClusterState:
        return map_state(lambda field: segment_sum(field, index, dim_size), state)

    def inverse(self, state: ClusterState) -> ClusterState:
        return map_state(torch.neg, state)

    def weigh(self, state: ClusterState, weight: Tensor) -> ClusterState:
        return map_state(lambda field: times_weight(field, weight), state)

    def means(self, state: ClusterState) -> tuple[Tensor, Tensor]:
        """Mean keys ``[..., n, key_channels]`` and values ``[..., n, channels]``; 0 of no keys."""
        size = state.size.unsqueeze(-1)
        return divide(state.keys, size), divide(state.values, size)

    def logits(self, state: ClusterState, queries: Tensor, scale: float) -> Tensor:
        """The logarithm of what all of a cluster's keys weigh: -inf without keys.

        Args:
            state: of ``n`` clusters, ``[..., n]`` with other clusters for each batch and head.
            queries: ``[..., m, key_channels]``.
            scale: of the logits.

        Returns:
            ``[..., m, n]``.
        """
        mean, _ = self.means(state)
        queries = queries.to(mean.dtype)
        there = state.size > 0
        found = scale * (queries @ mean.mT) + torch.where(there, state.size, 1).log().unsqueeze(-2)
        if state.key_products is not None:
            found = found + self._scatter(state, queries, scale)[0]
        return found.masked_fill(~there.unsqueeze(-2), -torch.inf)

    def _scatter(self, state: ClusterState, queries: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """What the scatter of a cluster's keys adds to its logit, and how far a query reaches along
        it: 1 within what so many keys have, less beyond; ``[..., m, n]`` each."""
        mean, _ = self.means(state)
        assert state.key_products is not None
        scatter = divide(state.key_products, state.size[..., None, None])
        scatter = scatter - mean.unsqueeze(-1) * mean.unsqueeze(-2)
        variance = torch.einsum("...mi,...nij,...mj->...mn", queries, scatter, queries)
        variance = scale**2 * variance.clamp(min=0)
        most = 2 * state.size.clamp(min=1).log().unsqueeze(-2).expand_as(variance)
        within = variance <= most
        deviation = torch.where(within, 1, variance).sqrt()
        furthest = torch.where(within, 1, most).clamp(min=torch.finfo(most.dtype).tiny).sqrt()
        added = torch.where(within, variance / 2, deviation * furthest - most / 2)
        return added, torch.where(within, 1, furthest / deviation)

    def read(self, state: ClusterState, queries: Tensor, scale: float) -> AttentionState:
        """What queries gather of each cluster.

        Args:
            state: see :meth:`logits`.
            queries: see :meth:`logits`.
            scale: of the logits.

        Returns:
            ``out [..., m, n, channels]`` (a view of the mean values at order 1) and ``lse
            [..., m, n]``. To be folded over clusters, or merged with what was gathered of others.
        """
        lse = self.logits(state, queries, scale)
        mean_key, mean_value = self.means(state)
        out = mean_value.unsqueeze(-3).expand(*lse.shape, self.value_channels)
        if state.value_products is not None:
            along = divide(state.value_products, state.size[..., None, None])
            along = along - mean_key.unsqueeze(-1) * mean_value.unsqueeze(-2)
            queries = queries.to(mean_key.dtype)
            moved = torch.einsum("...mi,...nic->...mnc", queries, along)
            out = out + scale * self._scatter(state, queries, scale)[1].unsqueeze(-1) * moved
        return AttentionState(out, lse)

    def __repr__(self) -> str:
        order = f", order={self.order}" if self.order != 1 else ""
        return f"ClusterSummary({self.key_channels}, {self.value_channels}{order})"
