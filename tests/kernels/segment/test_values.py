"""What the segment reductions answer, against the naive reference and the monoids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lcm_graph.kernels.segment import reference
from lcm_graph.kernels.segment import triton_closed_forms as kernels
from lcm_graph.kernels.segment.tasks import Segments, plan
from lcm_graph.monoids import LogSumExp, Max, Mean, Min, Moments, Monoid, Softmax, Sum
from lcm_graph.monoids.moments import MomentsState
from lcm_graph.monoids.softmax import SoftmaxState
from tests.kernels.segment.batches import HUB, SIZES, batch, elements, gather, index
from tests.references import error, ptr_of

TOLERANCE = {
    torch.float16: 5e-4,
    torch.bfloat16: 8e-3,  # the interpreter cuts digits off where a GPU rounds
    torch.float32: 2e-6,
    torch.float64: 1e-14,
}

NAMES = ("sum", "max", "min", "mean", "moments", "logsumexp", "softmax", "attention")
TEMPERATURE = torch.tensor(0.7)


def reduce(module: Any, name: str, x: Tensor, segments: Segments, **options: Any) -> Any:
    """All that the reduction gives, as a tuple."""
    function = getattr(module, f"segment_{name}")
    if name == "softmax":
        out = function(x, segments, TEMPERATURE, **options)
    elif name == "attention":
        out = function(x, x[:, :1] * 2, segments, **options)
    else:
        out = function(x, segments, **options)
    return (out,) if isinstance(out, Tensor) else out


def check(name: str, x: Tensor, segments: Segments) -> None:
    out = reduce(kernels, name, x, segments)
    expected = reduce(reference, name, x.double(), segments)
    for actual, wanted in zip(out, expected, strict=True):
        assert actual.is_contiguous()
        finite = wanted.isfinite()
        assert torch.equal(actual.double()[~finite], wanted[~finite])
        assert actual.shape == wanted.shape
        assert error(actual[finite], wanted[finite]) <= TOLERANCE[x.dtype]


@pytest.mark.parametrize("d", [1, 3, 16, 33])
@pytest.mark.parametrize("name", ["sum", "moments", "attention"])
def test_widths(name: str, d: int) -> None:
    segments = batch(SIZES, spare=5)
    check(name, torch.randn(sum(SIZES) + 5, d), segments)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_dtypes(name: str, dtype: torch.dtype) -> None:
    check(name, torch.randn(sum(SIZES), 3).to(dtype), batch(SIZES))


@pytest.mark.parametrize("name", NAMES)
def test_hub(name: str) -> None:
    check(name, torch.randn(HUB + 136, 3), batch([7, 64, HUB, 65]))


@pytest.mark.parametrize("name", ["sum", "softmax"])
def test_several_stages(name: str) -> None:
    segments = batch([3, 5000])  # 79 subtrees, then 2, then the set
    assert len(segments.stages) == 3
    check(name, torch.randn(5003, 1), segments)


def test_channels_of_several_programs() -> None:
    check("moments", torch.randn(13, 130), batch([10, 3]))


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_repeat(name: str) -> None:
    check(name, torch.randn(9, 3), gather(SIZES, rows=9))


def test_rows_in_order_need_no_permutation() -> None:
    check("sum", torch.randn(sum(SIZES), 3), plan(ptr_of(SIZES)))


def test_any_strides() -> None:
    rows = sum(SIZES)
    segments = batch(SIZES)
    for x in (
        torch.randn(3, rows).T,
        torch.randn(2 * rows, 9)[::2, 1::4],
        torch.randn(3).expand(rows, 3),
    ):
        check("sum", x, segments)


@pytest.mark.parametrize("sizes", [[], [0], [0, 0, 0]], ids=str)
@pytest.mark.parametrize("name", ["sum", "max", "moments"])
def test_without_elements(name: str, sizes: list[int]) -> None:
    for segments in (plan(ptr_of(sizes)), batch(sizes)):
        for column in reduce(kernels, name, torch.randn(0, 3), segments):
            assert column.shape[0] == len(sizes)
            assert (column == (-torch.inf if name == "max" else 0)).all()


def test_without_channels() -> None:
    assert kernels.segment_sum(torch.randn(6, 0), plan(ptr_of([4, 2]))).shape == (2, 0)


def test_half_precision_is_accumulated_in_single() -> None:
    x = torch.ones(HUB, 1, dtype=torch.bfloat16)
    segments = plan(ptr_of([HUB]))
    assert kernels.segment_sum(x, segments, torch.float32).item() == HUB
    wide = reduce(kernels, "moments", x, segments, dtype=torch.float32)
    assert [column.dtype for column in wide] == [torch.float32] * 3


def lowered(monoid: Monoid, x: Tensor, segments: Segments) -> Tensor:
    state = monoid.segment(monoid.lift(elements(x, segments)), index(segments), segments.num_sets)
    return monoid.lower(state)


CLOSED: dict[str, tuple[Monoid, Callable[..., Any]]] = {
    "sum": (Sum(), lambda out: out),
    "max": (Max(), lambda out: out),
    "min": (Min(), lambda out: out),
    "mean": (Mean(), lambda mean, _: mean),
    "moments": (
        Moments(statistics=("mean", "var", "std"), unbiased=True),
        lambda *state: MomentsState(*state),
    ),
    "logsumexp": (LogSumExp(), lambda out: out),
    "softmax": (Softmax(temperature=0.7), lambda *state: SoftmaxState(*state)),
}


@pytest.mark.parametrize("name", CLOSED)
def test_agrees_with_the_monoid(name: str) -> None:
    x, segments = torch.randn(sum(SIZES), 3) + 5, batch(SIZES)
    monoid, state = CLOSED[name]
    out = reduce(kernels, name, x, segments)
    actual = monoid.lower(monoid.lift(out[0]) if name == "mean" else state(*out))
    actual = state(*out) if name == "mean" else actual
    assert error(actual, lowered(monoid, x, segments)) <= 4e-6


@pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")  # numpy's, of inf - inf
@pytest.mark.parametrize("name", CLOSED)
def test_not_a_number_stays_in_its_set(name: str) -> None:
    x, segments = torch.randn(15, 2), batch([2, 9, 0, 3, 1])
    clean = reduce(kernels, name, x, segments)
    assert segments.permutation is not None
    held = x.clone()
    held[segments.permutation[4], 1] = torch.nan  # in set 1
    for before, after in zip(clean, reduce(kernels, name, held, segments), strict=True):
        if before.size(1) == 1:  # a size
            assert torch.equal(before, after)
            continue
        assert after[1, 1].isnan()
        after[1, 1] = before[1, 1]
        assert torch.equal(before, after)


@pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")
@pytest.mark.parametrize("name", ["max", "min", "logsumexp", "softmax"])
def test_infinities(name: str) -> None:
    inf = torch.inf
    sets = [
        [-inf],
        [-inf, -inf, -inf],
        [-inf, 2.0],
        [1.0, -inf, 3.0],
        [inf, 1.0],
        [inf],
        [-inf, inf],
    ]
    if name == "softmax":
        sets = sets[:2]  # beside others an infinity has no weighted mean
    x = torch.tensor([v for values in sets for v in values]).unsqueeze(1)
    segments = plan(ptr_of([len(values) for values in sets]))
    monoid, state = CLOSED[name]
    actual = monoid.lower(state(*reduce(kernels, name, x, segments)))
    torch.testing.assert_close(actual, lowered(monoid, x, segments), equal_nan=True)


def test_variance_far_from_zero() -> None:
    x = (torch.arange(HUB) % 4).float().unsqueeze(1) + 1e6
    size, mean, m2 = kernels.segment_moments(x, plan(ptr_of([HUB])))
    assert (size.item(), mean.item()) == (HUB, 1e6 + 1.5)
    assert abs(m2.item() / HUB - 1.25) < 1e-5
