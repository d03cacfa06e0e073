"""The state of linear attention: keys' features times values, summed once for all queries."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lcm_graph.attention.states.softmax_attention import AttentionState
from lcm_graph.monoids import Monoid
from lcm_graph.monoids.base import check_positive
from lcm_graph.monoids.mean import count_dtype, divide
from lcm_graph.monoids.segment import segment_sum, times_weight


class LinearState(NamedTuple):
    """What keys and values add up to."""

    products: Tensor  # [n, features, channels]: Σ φ(k) vᵀ
    norm: Tensor  # [n, features]: Σ φ(k)


class LinearAttention(Monoid):
    r"""Sums of :math:`\phi(k) v^T` and :math:`\phi(k)`, read by a query as
    :math:`\phi(q)^T S / \phi(q)^T z`.

    Args:
        features: length of :math:`\phi(k)`.
        channels: features of a value.

    An element is features and value side by side, ``[n, features + channels]``, or see
    :meth:`lift`. ``lower`` gives both sums flattened, ``[n, features * (channels + 1)]``;
    :meth:`read` answers queries. Sums are kept in the elements' dtype: lift float32 where many are
    narrower.

    Source: Katharopoulos et al., "Transformers are RNNs" (2020), section 3.2.
    """

    invertible = True
    additive = True

    def __init__(self, features: int, channels: int) -> None:
        self.features = check_positive("features", features)
        self.value_channels = check_positive("channels", channels)
        super().__init__(features + channels)

    @property
    def out_channels(self) -> int:
        return self.features * (self.value_channels + 1)

    def lift(self, x: Tensor, values: Tensor | None = None) -> LinearState:
        """Turn elements into states.

        Args:
            x: floating point ``[n, features + channels]``; or features ``[n, features]``, if
                ``values`` are given.
            values: ``[n, channels]``.

        Raises:
            ValueError: a shape is another one, or ``x`` is not floating point.
        """
        if values is None:
            self._check_elements(x)
            x, values = x.tensor_split([self.features], dim=1)
        self._check_floating(x)
        n = x.size(0) if x.dim() else 0
        if x.shape != (n, self.features) or values.shape != (n, self.value_channels):
            raise ValueError(
                f"{self} takes features {[n, self.features]} and values "
                f"{[n, self.value_channels]} (got {list(x.shape)} and {list(values.shape)})"
            )
        return LinearState(x.unsqueeze(-1) * values.unsqueeze(-2), x)

    def combine(self, left: LinearState, right: LinearState) -> LinearState:
        return LinearState(left.products + right.products, left.norm + right.norm)

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> LinearState:
        products = torch.zeros(n, self.features, self.value_channels, dtype=dtype, device=device)
        return LinearState(products, products.new_zeros(n, self.features))

    def lower(self, state: LinearState) -> Tensor:
        return torch.cat([state.products.flatten(1), state.norm], dim=1)

    def segment(self, state: LinearState, index: Tensor, dim_size: int) -> LinearState:
        return LinearState(
            segment_sum(state.products, index, dim_size), segment_sum(state.norm, index, dim_size)
        )

    def inverse(self, state: LinearState) -> LinearState:
        return LinearState(-state.products, -state.norm)

    def weigh(self, state: LinearState, weight: Tensor) -> LinearState:
        return LinearState(times_weight(state.products, weight), times_weight(state.norm, weight))

    def read(self, state: LinearState, queries: Tensor) -> AttentionState:
        r"""What queries gather: to be merged with other attention states, or read as it is.

        Args:
            state: of ``n`` sets.
            queries: :math:`\phi(q)`, ``[n, m, features]``, m queries of each set.

        Returns:
            ``out [n, m, channels]`` and ``lse [n, m]``, the logarithm of
            :math:`\phi(q)^T z`; -inf, and 0 in ``out``, where that is not positive.
        """
        wide = count_dtype(state.norm.dtype)
        queries, products = queries.to(wide), state.products.to(wide)
        norm = queries @ state.norm.to(wide).unsqueeze(-1)  # [n, m, 1]
        norm = norm * (norm > 0)
        out = divide(queries @ products, norm)
        norm = norm.squeeze(-1)
        lse = torch.where(norm > 0, norm, 1).log().masked_fill(norm == 0, -torch.inf)
        return AttentionState(out, lse)

    def __repr__(self) -> str:
        return f"LinearAttention({self.features}, {self.value_channels})"
