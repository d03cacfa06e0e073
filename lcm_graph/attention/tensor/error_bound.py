"""How far the polynomial method may be from the exact one."""

from __future__ import annotations

import math
from typing import NamedTuple

from lcm_graph.attention.tensor.monomials import check_degree

_LARGEST = 700.0  # whose exponential is still a number


class PolynomialError(NamedTuple):
    """Bounds on the error of the polynomial method."""

    out: float
    """Of the output, relative to the largest absolute product of values."""
    lse: float
    """Of ``lse``, absolute."""


def polynomial_error(degree: int, largest: float) -> PolynomialError:
    r"""The error at most, if no logit is larger than ``largest`` in absolute value.

    The Taylor polynomial P of even degree g misses a weight :math:`e^x` by the factor

    .. math:: \frac{P(x)}{e^x} = 1 - \frac{1}{g!} \int_0^x t^g e^{-t}\, dt,

    which falls with x: from :math:`1 + b` at :math:`-R` to :math:`1 - a` at :math:`R`. A mean of
    values in [-V, V] whose weights are wrong by such factors moves by
    :math:`V (a + b) / (2 (1 - a))` at most, and the logarithm of what the weights add up to by the
    larger of :math:`\log(1 + b)` and :math:`-\log(1 - a)`.

    Args:
        degree: g, even, from 2 up.
        largest: R, of the scaled logits; up to 700.

    Raises:
        ValueError: ``degree`` is odd or below 2, or ``largest`` is out of range.

    Source: Taylor's theorem, remainder in integral form. For the degree that an error needs:
    Aggarwal and Alman, "Optimal-Degree Polynomial Approximations for Exponentials and Gaussian
    Kernel Density Estimation" (2022).
    """
    check_degree(degree)
    if not 0 <= largest <= _LARGEST:
        raise ValueError(f"'largest' must be from 0 to {_LARGEST:g} (got {largest!r})")
    # All sums are of positive terms: nothing cancels.
    term = kept = math.exp(-largest)
    for power in range(1, degree + 1):
        term *= largest / power
        kept += term  # in the end 1 - a
    missed = added = 0.0  # a and b
    rise = term * math.exp(largest) * largest  # R^(g + 1 + m) / (g! m!) of the series of b
    for power in range(1, 200 + 4 * math.ceil(largest)):
        term *= largest / (degree + power)
        missed += term
        added += rise / (degree + power)
        rise *= largest / power
    return PolynomialError(
        (missed + added) / (2 * kept), max(math.log1p(missed / kept), math.log1p(added))
    )
