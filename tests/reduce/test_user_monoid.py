"""Monoids written from scratch: other states, other dtypes, other algebras."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from lcm_graph.monoids import Monoid, Product, Sum
from lcm_graph.reduce import segment_reduce, sequential_reduce
from tests.references import error, gradients, index_of

INDEX = index_of((3, 1, 13, 0, 2))[torch.randperm(19, generator=torch.Generator().manual_seed(4))]


class MatrixProduct(Monoid):
    """Products of 2x2 matrices: associative, with an identity, and not commutative."""

    commutative = False

    def combine(self, left: Tensor, right: Tensor) -> Tensor:
        return left @ right

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> Tensor:
        return torch.eye(2, dtype=dtype, device=device).expand(n, 2, 2).clone()

    def lift(self, x: Tensor) -> Tensor:
        return x.view(-1, 2, 2)

    def lower(self, state: Tensor) -> Tensor:
        return state.flatten(1)


class GCD(Monoid):
    """Greatest common divisors of integers; the identity is 0."""

    idempotent = True

    def combine(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.gcd(left, right)

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> Tensor:
        return torch.zeros(self._identity_shape(n), dtype=torch.int64, device=device)

    def lift(self, x: Tensor) -> Tensor:
        return x


class Counted(NamedTuple):
    factors: Tensor  # int64 [n]
    value: Tensor  # [n, channels]


class CountedProduct(Monoid):
    """A product, and, as integers, how many factors it has."""

    def lift(self, x: Tensor) -> Counted:
        return Counted(torch.ones(len(x), dtype=torch.int64), x)

    def combine(self, left: Counted, right: Counted) -> Counted:
        return Counted(left.factors + right.factors, left.value * right.value)

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> Counted:
        ones = torch.ones(self._identity_shape(n), dtype=dtype, device=device)
        return Counted(torch.zeros(n, dtype=torch.int64, device=device), ones)

    def lower(self, state: Counted) -> Tensor:
        return torch.cat([state.factors.to(state.value).unsqueeze(1), state.value], dim=1)


def by_set(x: Tensor) -> list[Tensor]:
    return [x[INDEX == s] for s in range(5)]


def test_matrices_are_multiplied_in_order() -> None:
    x = torch.randn(19, 4, dtype=torch.float64, requires_grad=True)
    monoid = MatrixProduct()
    out = monoid.lower(segment_reduce(monoid, monoid.lift(x), INDEX))
    eye = torch.eye(2, dtype=torch.float64)
    products = []
    for rows in by_set(x):
        product = eye
        for matrix in rows.view(-1, 2, 2):
            product = product @ matrix
        products.append(product.flatten())
    expected = torch.stack(products)
    assert error(out, expected) <= 1e-12
    assert error(gradients(out, [x])[0], gradients(expected, [x])[0]) <= 1e-12


@pytest.mark.parametrize("fold", [segment_reduce, sequential_reduce], ids=["tree", "sequence"])
def test_integers(fold) -> None:
    """States need not be floating point, empty sets included."""
    x = 6 * torch.randint(1, 9, (19, 2))
    out = fold(GCD(2), x, INDEX, dim_size=6)
    expected = [[math.gcd(*rows[:, c].tolist()) for c in range(2)] for rows in by_set(x)]
    assert out.tolist() == [*expected, [0, 0]]


@pytest.mark.parametrize("fold", [segment_reduce, sequential_reduce], ids=["tree", "sequence"])
def test_integers_among_floats(fold) -> None:
    """Integer tensors pass through the fold, and gradients by them."""
    x = torch.randn(19, 2, dtype=torch.float64, requires_grad=True)
    monoid = CountedProduct(2)
    states = fold(monoid, monoid.lift(x), INDEX, dim_size=6)
    assert states.factors.dtype == torch.int64
    out = monoid.lower(states)
    rows = [*by_set(x), x[:0]]
    expected = torch.stack([torch.cat([torch.tensor([len(r)]).to(x), r.prod(0)]) for r in rows])
    assert error(out, expected) <= 1e-12
    assert error(gradients(out, [x])[0], gradients(expected, [x])[0]) <= 1e-12


def test_product_with_a_monoid_of_ones_own() -> None:
    x = torch.randn(19, 2, dtype=torch.float64)
    both, alone = Product(CountedProduct(2), Sum(2)), CountedProduct(2)
    out = both.lower(segment_reduce(both, both.lift(x), INDEX, dim_size=6))
    counted = alone.lower(segment_reduce(alone, alone.lift(x), INDEX, dim_size=6))
    sums = torch.stack([*(rows.sum(0) for rows in by_set(x)), x.new_zeros(2)])
    assert error(out, torch.cat([counted, sums], dim=1)) <= 1e-12


def test_combine_of_another_shape_is_refused() -> None:
    class Wider(Sum):
        def segment(self, state: Tensor, index: Tensor, dim_size: int) -> None:  # type: ignore[override]
            return None

        def combine(self, left: Tensor, right: Tensor) -> Tensor:
            return torch.cat([left, right], dim=1)

    for recompute in (True, False):
        x = torch.randn(19, 2, requires_grad=True)
        with pytest.raises(ValueError, match=r"Wider.*combine.*\(.*2\).*\(.*4\)"):
            segment_reduce(Wider(2), x, INDEX, recompute=recompute)
