"""Products of features, up to a degree, in which a polynomial of a product of vectors is linear."""

from __future__ import annotations

import functools
import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from lcm_graph.monoids.base import check_positive

MOST = 1 << 20
"""Monomials, more than which are taken for an oversight."""


def monomials(x: Tensor, degree: int) -> Tensor:
    r"""All products :math:`x^\alpha = \prod_c x_c^{\alpha_c}` with :math:`|\alpha| \le g`.

    Args:
        x: floating point ``[*, d]``.
        degree: g, even, from 2 up.

    Returns:
        ``[*, count_monomials(d, g)]``, by degree; the first is 1.
    """
    levels = [torch.ones_like(x[..., :1])]
    for parents, last in _table(x.size(-1), degree).levels:
        parents, last = parents.to(x.device), last.to(x.device)
        levels.append(levels[-1].index_select(-1, parents) * x.index_select(-1, last))
    return torch.cat(levels, -1)


def taylor_weights(x: Tensor, degree: int) -> Tensor:
    r"""What monomials weigh in the exponential's Taylor polynomial, :math:`1 / \alpha!`.

    .. math:: \sum_\alpha \frac{1}{\alpha!} q^\alpha k^\alpha
        = \sum_{t \le g} \frac{1}{t!} \Bigl(\sum_c q_c k_c\Bigr)^t,

    and likewise for products of more than two vectors' features.

    Returns:
        ``[count_monomials(d, g)]``, in the dtype of ``x [*, d]``.
    """
    return _table(x.size(-1), degree).weights.to(x.dtype).to(x.device)


def count_monomials(channels: int, degree: int) -> int:
    r""":math:`\binom{d+g}{g}`.

    Raises:
        ValueError: ``degree`` is odd or below 2, or there are more than a million.
    """
    count = math.comb(channels + check_degree(degree), degree)
    if count > MOST:
        raise ValueError(
            f"'degree' {degree} makes {count:,} products of {channels} features, and {MOST:,} are "
            "the most; take a lower degree or fewer features, or do without monomials"
        )
    return count


def check_degree(degree: int) -> int:
    """Returns ``degree``; ValueError if it is odd or below 2."""
    if check_positive("degree", degree) % 2:
        raise ValueError(
            f"'degree' must be even: polynomials of odd degree give negative weights (got {degree})"
        )
    return degree


class _Table(NamedTuple):
    levels: list[tuple[Tensor, Tensor]]  # of degree 1, 2, …: product of one less, and last feature
    weights: Tensor  # float64


@functools.lru_cache(maxsize=16)
def _table(channels: int, degree: int) -> _Table:
    count_monomials(channels, degree)
    places: dict[tuple[int, ...], int] = {(): 0}
    levels, weights = [], [1.0]
    with torch.inference_mode(mode=False):  # what is made now may serve in training later
        for size in range(1, degree + 1):
            chosen = list(itertools.combinations_with_replacement(range(channels), size))
            parents = torch.tensor([places[some[:-1]] for some in chosen])
            levels.append((parents, torch.tensor([some[-1] for some in chosen])))
            places = {some: place for place, some in enumerate(chosen)}
            weights += [
                1 / math.prod(math.factorial(some.count(c)) for c in set(some)) for some in chosen
            ]
        return _Table(levels, torch.tensor(weights, dtype=torch.float64))
