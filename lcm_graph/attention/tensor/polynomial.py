"""The polynomial method: sums over keys that are multiplied with each other when they are read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from lcm_graph.attention.states import AttentionState, LinearAttention, LinearState
from lcm_graph.attention.tensor.monomials import count_monomials, monomials, taylor_weights
from lcm_graph.kernels.gradient_mode import is_transformed
from lcm_graph.monoids import Product
from lcm_graph.monoids.base import check_positive
from lcm_graph.monoids.mean import count_dtype


class PolynomialAttention(Product):
    r"""Attention to all pairs of keys, whose logits are trilinear and small, in a state of sums.

    With the Taylor polynomial of the exponential for the exponential, and :math:`\phi` for the
    monomials up to its degree, what pairs of keys weigh is
    :math:`\phi(q)^T (\phi(k^1_j) \circ \phi(k^2_k))`. So a state is that of one
    :class:`~lcm_graph.attention.LinearAttention` for each set of keys,
    :math:`S_s = \sum_j \phi(k^s_j) (v^s_j)^T` and :math:`z_s = \sum_j \phi(k^s_j)`, and a query
    reads

    .. math:: \frac{\phi(q)^T (S_1 \circ S_2)}{\phi(q)^T (z_1 \circ z_2)}.

    ``order`` sets of keys go together, two by default. The error, see
    :func:`~lcm_graph.attention.polynomial_error`, is small for small logits alone. For d features
    and degree g there are :math:`\binom{d+g}{g}` monomials, few for few features only: 495 for
    d = 8 and g = 4, but 814,385 for d = 64.

    Args:
        key_channels: features of a key.
        channels: features of a value.
        degree: of the polynomial, even, so that no weight is negative.
        order: number of keys that an element has.

    An element is a key and a value of each set, side by side: ``[n, order * (key_channels +
    channels)]``, key, value, key, value. ``lower`` gives all sums flattened; :meth:`read` answers
    queries. Sums are kept in the elements' dtype: lift float32 where many are narrower.

    Raises:
        ValueError: an argument is out of range, or there are more than a million monomials.

    Source: Alman and Song, "How to Capture Higher-order Correlations? Generalizing Matrix Softmax
    Attention to Kronecker Computation" (2024).
    """

    def __init__(self, key_channels: int, channels: int, degree: int = 4, order: int = 2) -> None:
        self.key_channels = check_positive("key_channels", key_channels)
        self.value_channels = check_positive("channels", channels)
        features = count_monomials(key_channels, degree)
        order = check_positive("order", order)
        super().__init__(*(LinearAttention(features, channels) for _ in range(order)))
        self.degree = degree
        self.order = order
        self.channels = order * (key_channels + channels)

    def lift(self, x: Tensor) -> tuple[LinearState, ...]:
        """Turn elements ``[n, order * (key_channels + channels)]`` into states.

        Raises:
            ValueError: ``x`` has another shape or is not floating point.
        """
        self._check_elements(x)
        parts = x.split([self.key_channels, self.value_channels] * self.order, 1)
        return tuple(
            linear.lift(monomials(keys, self.degree), values)
            for linear, keys, values in zip(self.linear, parts[::2], parts[1::2], strict=True)
        )

    @property
    def linear(self) -> tuple[LinearAttention, ...]:
        """The factors, one for each set of keys."""
        return self.factors  # type: ignore[return-value]

    def read(self, state: Sequence[LinearState], queries: Tensor, scale: float) -> AttentionState:
        """What queries gather of all combinations of a key from each set.

        Args:
            state: of ``n`` sets.
            queries: ``[n, m, key_channels]``, m queries of each set.
            scale: of the logits.

        Returns:
            ``out [n, m, channels]`` and ``lse [n, m]``; 0 and -inf without keys.

        Raises:
            ValueError: the weights of a query do not add up to a positive number: inputs are not
                finite, or logits so large that the polynomial overflows, or that rounding spoils
                it. (Not under ``torch.func``, which cannot ask.)
        """
        queries = queries.to(count_dtype(queries.dtype))
        features = monomials(scale * queries, self.degree) * taylor_weights(queries, self.degree)
        product = LinearState(
            reduce(torch.mul, [one.products for one in state]),
            reduce(torch.mul, [one.norm for one in state]),
        )
        found = self.linear[0].read(product, features)
        if not is_transformed():
            self._check_weights(product.norm, features)
        return found

    @torch.no_grad()
    def _check_weights(self, norm: Tensor, features: Tensor) -> None:
        total = (features @ norm.to(features.dtype).unsqueeze(-1)).squeeze(-1)
        # The first monomial is 1, so the first sum counts combinations.
        wrong = ~((total > 0) & total.isfinite()) & (norm[:, :1] != 0)
        if wrong.any():
            raise ValueError(
                f"the weights of a query add up to {total[wrong][0].item():.3g} by the polynomial "
                f"of 'degree' {self.degree}: inputs are not finite, or logits too large for it; "
                "take smaller queries or keys, a higher degree, or method 'exact'"
            )

    def __repr__(self) -> str:
        order = f", order={self.order}" if self.order != 2 else ""
        return (
            f"PolynomialAttention({self.key_channels}, {self.value_channels}, "
            f"degree={self.degree}{order})"
        )
