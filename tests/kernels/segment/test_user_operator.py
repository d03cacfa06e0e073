"""Any pointwise ``@triton.jit`` function is folded along the canonical tree."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import triton
import triton.language as tl  # noqa: F401  (which the interpreter looks for)
from torch import Tensor

from lcm_graph.kernels.segment import reference
from lcm_graph.kernels.segment.tasks import plan
from lcm_graph.kernels.segment.triton_reduce import fold
from lcm_graph.monoids import Monoid
from lcm_graph.reduce import FoldPlan, tree_reduce
from tests.kernels.segment.batches import HUB, SIZES, batch
from tests.references import error, ptr_of


@triton.jit
def halved(a, b):
    return a * 0.5 + b


@triton.jit
def complex_product(re_a, im_a, re_b, im_b):
    return re_a * re_b - im_a * im_b, re_a * im_b + im_a * re_b


@triton.jit
def scaled_sum(scale_a, total_a, scale_b, total_b):
    return scale_a * scale_b, total_a * scale_b + total_b


@triton.jit
def weighted(own, x, weight, factor):
    return x * weight * factor + own


@triton.jit
def plain_sum(a, b):
    return a + b


class Halved(Monoid):
    """``a / 2 + b``: neither commutative nor associative."""

    def combine(self, left: Tensor, right: Tensor) -> Tensor:
        return left * 0.5 + right

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> Tensor:
        return torch.zeros(n, 3, dtype=dtype, device=device)


@pytest.mark.parametrize("sizes", [SIZES, (HUB, 64, 2, 65), (200, 4100)], ids=str)
def test_is_exactly_the_canonical_tree(sizes: tuple[int, ...]) -> None:
    x, ptr = torch.randn(sum(sizes), 3), ptr_of(sizes)
    expected = tree_reduce(Halved(), x, FoldPlan.from_ptr(ptr))
    (out,) = fold([x], plan(ptr), halved, [0.0])
    assert torch.equal(out, expected)


def test_several_columns() -> None:
    segments = batch(SIZES)
    columns = [torch.randn(sum(SIZES), 3) for _ in range(2)]
    out = fold(columns, segments, complex_product, [1.0, 0.0])
    expected = reference.fold(columns, segments, complex_product.fn, [1.0, 0.0])
    for actual, wanted in zip(out, expected, strict=True):
        assert error(actual, wanted) <= 1e-6


def test_narrow_columns() -> None:
    segments = batch(SIZES)
    columns = [torch.rand(sum(SIZES), 1) + 0.4, torch.randn(sum(SIZES), 3)]
    out = fold(columns, segments, scaled_sum, [1.0, 0.0])
    expected = reference.fold(columns, segments, scaled_sum.fn, [1.0, 0.0])
    for actual, wanted in zip(out, expected, strict=True):
        assert actual.shape == wanted.shape
        assert error(actual, wanted) <= 1e-6


def test_lift_of_own_columns_and_parameters() -> None:
    segments = batch([*SIZES, 130])  # a set of several tasks looks up its own row, too
    columns = [torch.randn(sum(SIZES) + 130, 3), torch.rand(sum(SIZES) + 130, 1)]
    options: Any = {"own": [torch.randn(segments.num_sets, 3)], "parameters": [torch.tensor(0.5)]}
    (out,) = fold(columns, segments, plain_sum, [0.0], lift=weighted, **options)
    (expected,) = reference.fold(
        columns, segments, plain_sum.fn, [0.0], lift=weighted.fn, **options
    )
    assert error(out, expected) <= 1e-6


def test_integers() -> None:
    x = torch.arange(3 * sum(SIZES)).view(-1, 3)
    (out,) = fold([x], plan(ptr_of(SIZES)), plain_sum, [0])
    (expected,) = reference.fold([x], plan(ptr_of(SIZES)), plain_sum.fn, [0])
    assert out.dtype == torch.int64
    assert torch.equal(out, expected)
