"""Gradients against autograd of the monoids' closed forms, for random cotangents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lcm_graph.kernels.segment import backward
from lcm_graph.kernels.segment import triton_closed_forms as kernels
from lcm_graph.kernels.segment.tasks import Segments, transpose
from lcm_graph.monoids import LogSumExp, Max, Mean, Min, Moments, Monoid, Softmax, Sum
from tests.kernels.segment.batches import batch, elements, gather, index
from tests.references import error

SIZES = (0, 16, 1, 33, 2, 3, 0, 5)
ROWS = sum(SIZES) + 2
BATCHES = {
    "each row once": batch(SIZES, spare=2),
    "rows that repeat": gather(SIZES, rows=ROWS),
    "few rows": gather(SIZES, rows=5),
}
TEMPERATURE = torch.tensor(0.7)


def expected(monoid: Monoid, x: Tensor, segments: Segments, grads: list[Tensor]) -> Tensor:
    """The gradient of x for cotangents of the state's wide columns that have one."""
    x = x.double().requires_grad_()
    state: Any = monoid.segment(
        monoid.lift(elements(x, segments)), index(segments), segments.num_sets
    )
    columns = [state] if isinstance(state, Tensor) else list(state)
    columns = [column for column in columns if column.size(1) == x.size(1)]
    if isinstance(monoid, Softmax):
        columns = [monoid.lower(state)]
    (grad,) = torch.autograd.grad(columns, [x], [grad.double() for grad in grads])
    return grad


def gradient_of_sum(x: Tensor, segments: Segments, grads: list[Tensor]) -> Tensor:
    return backward.sum_backward(grads[0], transpose(segments, len(x)), x.dtype)


def gradient_of_mean(x: Tensor, segments: Segments, grads: list[Tensor]) -> Tensor:
    _, size = kernels.segment_mean(x, segments)
    return backward.mean_backward(grads[0], size, transpose(segments, len(x)), x.dtype)


def gradient_of_max(x: Tensor, segments: Segments, grads: list[Tensor]) -> Tensor:
    out = kernels.segment_max(x, segments)
    return backward.extremum_backward(grads[0], x, out, segments, transpose(segments, len(x)))


def gradient_of_min(x: Tensor, segments: Segments, grads: list[Tensor]) -> Tensor:
    out = kernels.segment_min(x, segments)
    return backward.extremum_backward(grads[0], x, out, segments, transpose(segments, len(x)))


def gradient_of_moments(x: Tensor, segments: Segments, grads: list[Tensor]) -> Tensor:
    size, mean, _ = kernels.segment_moments(x, segments, torch.float32)
    return backward.moments_backward(grads[0], grads[1], x, size, mean, transpose(segments, len(x)))


def gradient_of_logsumexp(x: Tensor, segments: Segments, grads: list[Tensor]) -> Tensor:
    out = kernels.segment_logsumexp(x, segments, torch.float32)
    return backward.logsumexp_backward(grads[0], x, out, transpose(segments, len(x)))


def gradients_of_softmax(
    x: Tensor, logits: Tensor, segments: Segments, grad: Tensor
) -> tuple[Tensor, Tensor]:
    maximum, norm, total = kernels.segment_attention(x, logits, segments, torch.float32)
    empty = norm == 0
    of_total = torch.where(empty, 0, grad / norm.masked_fill(empty, 1))
    of_norm = torch.where(empty, 0, -of_total * total / norm.masked_fill(empty, 1))
    by_row = transpose(segments, len(x))
    return backward.softmax_backward(of_norm, of_total, x, logits, maximum, by_row)


def gradient_of_softmax(x: Tensor, segments: Segments, grads: list[Tensor]) -> Tensor:
    of_x, of_logits = gradients_of_softmax(x, TEMPERATURE * x, segments, grads[0])
    return of_x + TEMPERATURE * of_logits


Gradient = Callable[[Tensor, Segments, list[Tensor]], Tensor]
CASES: dict[str, tuple[Monoid, Gradient, int]] = {
    "sum": (Sum(), gradient_of_sum, 1),
    "mean": (Mean(), gradient_of_mean, 1),
    "max": (Max(), gradient_of_max, 1),
    "min": (Min(), gradient_of_min, 1),
    "moments": (Moments(), gradient_of_moments, 2),
    "logsumexp": (LogSumExp(), gradient_of_logsumexp, 1),
    "softmax": (Softmax(temperature=0.7), gradient_of_softmax, 1),
}


def check(name: str, x: Tensor, segments: Segments, tolerance: float) -> None:
    monoid, gradient, columns = CASES[name]
    grads = [torch.randn(segments.num_sets, x.size(1)) for _ in range(columns)]
    actual = gradient(x, segments, grads)
    assert actual.dtype == x.dtype
    assert error(actual, expected(monoid, x, segments, grads)) <= tolerance


@pytest.mark.parametrize("segments", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("name", CASES)
def test_gradient(name: str, segments: Segments) -> None:
    check(name, torch.randn(ROWS, 3), segments, 3e-6)


@pytest.mark.parametrize("name", ["max", "min"])
def test_ties_share_equally(name: str) -> None:
    check(name, torch.randint(3, (ROWS, 3)).float(), BATCHES["rows that repeat"], 1e-6)


@pytest.mark.parametrize("name", ["max", "moments"])
def test_half_precision(name: str) -> None:
    check(name, torch.randn(ROWS, 3).half(), BATCHES["each row once"], 5e-4)


@pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")  # numpy's, of inf - inf
def test_minus_infinity_weighs_nothing() -> None:
    x = torch.randn(ROWS, 3)
    x[::4] = -torch.inf
    check("logsumexp", x, BATCHES["each row once"], 3e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-6), (torch.float16, 5e-4)])
def test_attention(dtype: torch.dtype, tolerance: float) -> None:
    segments = BATCHES["rows that repeat"]
    x, logits = torch.randn(ROWS, 3).to(dtype), torch.randn(ROWS, 3).to(dtype)
    grad = torch.randn(segments.num_sets, 3)
    inputs = [x.double().requires_grad_(), logits.double().requires_grad_()]
    monoid = Softmax()
    state = monoid.segment(
        monoid.lift(*(elements(t, segments) for t in inputs)), index(segments), segments.num_sets
    )
    wanted = torch.autograd.grad(monoid.lower(state), inputs, grad.double())
    for a, w in zip(gradients_of_softmax(x, logits, segments, grad), wanted, strict=True):
        assert error(a, w) <= tolerance
