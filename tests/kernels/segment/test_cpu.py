"""Closed forms on a CPU answer and differentiate as the monoids' own do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lcm_graph.kernels.segment import closed_forms, cpu_bags, cpu_chunks, formula
from lcm_graph.kernels.segment.closed_forms import KERNELS
from lcm_graph.monoids import (
    LogSumExp,
    Max,
    Mean,
    MeanState,
    Min,
    Moments,
    MomentsState,
    Monoid,
    Softmax,
    SoftmaxState,
    State,
    Sum,
)
from lcm_graph.monoids.state import leaves, take

MONOIDS = (Sum, Mean, Max, Min, LogSumExp, Softmax, Moments)
SIZES = (0, 1, 2, 3, 0, 16, 17, 5, 33, 1, 400, 0)
CHANNELS = 3
ROUNDING = {
    torch.float64: 1e-10,
    torch.float32: 2e-5,
    torch.bfloat16: 2e-2,
    torch.float16: 3e-3,
}


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closed_forms, "CPU_ABOVE", 0)


def sets_of(ptr: Tensor, rows: Tensor | None, index: Tensor | None) -> formula.Sets:
    """Sets as plans name them."""
    return formula.Sets(ptr, rows, index, ptr.numel() - 1, int(ptr[-1]))


def make_sets(order: str, sizes: tuple[int, ...] = SIZES) -> tuple[formula.Sets, int]:
    """Sets end to end, shuffled or gathered, and how many rows their state has."""
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    n = sum(sizes)
    by_place = torch.arange(len(sizes)).repeat_interleave(ptr.diff())
    if order == "sorted":
        return sets_of(ptr, None, by_place), n
    if order == "shuffled":
        rows = torch.randperm(n)
        return sets_of(ptr, rows, torch.empty_like(by_place).index_copy_(0, rows, by_place)), n
    few = max(n // 7, 2)
    rows = torch.randint(1, few, (n,))  # one row is not used
    rows[: n // 2] = few - 1  # and one by many
    return sets_of(ptr, rows, None), few


def own(monoid: Monoid, state: State, sets: formula.Sets) -> State:
    """The monoid's own closed form."""
    if sets.index is not None:
        return monoid.segment(state, sets.index, sets.num_sets)
    assert sets.rows is not None
    by_place = torch.arange(sets.num_sets).repeat_interleave(sets.ptr.diff())
    return monoid.segment(take(state, sets.rows), by_place, sets.num_sets)


def kernel(monoid: Monoid, state: State, sets: formula.Sets) -> State:
    found = KERNELS[type(monoid)](monoid, state, sets)
    assert found is not None
    return found


def draw(n: int, kind: str = "normal", dtype: torch.dtype = torch.float64) -> Tensor:
    x = torch.randn(n, CHANNELS, dtype=torch.float64)
    if kind == "far":
        x += 100
    elif kind == "ties":
        x = x.round()
    elif kind == "infinities":
        x[torch.rand(n, CHANNELS) < 0.2] = -torch.inf
        x[torch.rand(n, CHANNELS) < 0.02] = torch.inf
    elif kind == "nan":
        x[torch.rand(n, CHANNELS) < 0.05] = torch.nan
    return x.to(dtype)


def assert_same(found: Tensor, expected: Tensor, rounding: float) -> None:
    found, expected = found.detach().double(), expected.detach().double()
    finite = expected[expected.isfinite()].abs()
    scale = float(finite.max()) if finite.numel() else 1.0
    torch.testing.assert_close(
        found, expected, rtol=rounding, atol=rounding * max(scale, 1), equal_nan=True
    )


def check(
    monoid: Monoid,
    sets: formula.Sets,
    x: Tensor,
    rounding: float,
    exact: torch.dtype = torch.float64,
) -> None:
    """Values and gradients against the monoid's own, computed in ``exact``."""
    ours, theirs = x.clone().requires_grad_(), x.to(exact).requires_grad_()
    found = leaves(kernel(monoid, monoid.lift(ours), sets))
    expected = leaves(own(monoid, monoid.lift(theirs), sets))
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert a.requires_grad == b.requires_grad
        assert_same(a, b, rounding)
    cotangents = [torch.randn_like(a) if a.requires_grad else None for a in found]
    pairs = [
        (a, b, g) for a, b, g in zip(found, expected, cotangents, strict=True) if g is not None
    ]
    torch.autograd.backward([a for a, _, _ in pairs], [g for _, _, g in pairs])
    torch.autograd.backward([b for _, b, _ in pairs], [g.to(b.dtype) for _, b, g in pairs])
    assert ours.grad is not None and theirs.grad is not None
    assert ours.grad.dtype == x.dtype
    assert_same(ours.grad, theirs.grad, rounding)


@pytest.fixture(params=["whole", "cut"])
def cuts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All in one chunk, or in many, with sets that span several."""
    if request.param == "cut":
        monkeypatch.setattr(cpu_chunks, "CHUNK_NUMBERS", 60)
        monkeypatch.setattr(cpu_bags, "LARGE", 16)


@pytest.mark.usefixtures("cuts")
@pytest.mark.parametrize("kind", ["normal", "far", "ties", "infinities", "nan"])
@pytest.mark.parametrize("order", ["sorted", "shuffled", "gathered"])
@pytest.mark.parametrize("kind_of_monoid", MONOIDS)
def test_values_and_gradients(kind_of_monoid: type[Monoid], order: str, kind: str) -> None:
    sets, rows = make_sets(order)
    for dtype, rounding in ROUNDING.items():
        check(kind_of_monoid(CHANNELS), sets, draw(rows, kind, dtype), rounding)


@pytest.mark.parametrize("kind_of_monoid", MONOIDS)
def test_one_large_set(kind_of_monoid: type[Monoid]) -> None:
    sets, rows = make_sets("shuffled", (3, cpu_bags.LARGE + 100, 0))
    check(kind_of_monoid(CHANNELS), sets, draw(rows, dtype=torch.float32), 1e-3)


@pytest.mark.parametrize("order", ["sorted", "gathered"])
@pytest.mark.parametrize("kind_of_monoid", MONOIDS)
def test_gradient_of_the_gradient(kind_of_monoid: type[Monoid], order: str) -> None:
    sets, rows = make_sets(order, (0, 3, 1, 6))
    monoid = kind_of_monoid(CHANNELS)
    x = draw(rows).requires_grad_()

    def lowered(x: Tensor) -> Tensor:
        return monoid.lower(kernel(monoid, monoid.lift(x), sets))

    assert torch.autograd.gradgradcheck(lowered, (x,))


def test_gradients_in_batches() -> None:
    sets, rows = make_sets("shuffled")
    for kind_of_monoid in MONOIDS:
        monoid = kind_of_monoid(CHANNELS)
        x = draw(rows).requires_grad_()
        out = monoid.lower(kernel(monoid, monoid.lift(x), sets))
        cotangents = torch.randn(2, *out.shape, dtype=out.dtype)
        (found,) = torch.autograd.grad(out, x, cotangents, is_grads_batched=True, retain_graph=True)
        for k in range(2):
            (expected,) = torch.autograd.grad(out, x, cotangents[k], retain_graph=True)
            torch.testing.assert_close(found[k], expected)


@pytest.mark.parametrize("statistic", ["mean", "var", "std"])
def test_statistics_alone(statistic: str) -> None:
    """Gradients of one field of a state, the others unused; data far from 0."""
    sets, rows = make_sets("shuffled")
    monoid = Moments(CHANNELS, (statistic,))
    ours = (draw(rows) + 1e6).float().requires_grad_()
    theirs = ours.detach().double().requires_grad_()
    found = monoid.lower(kernel(monoid, monoid.lift(ours), sets))
    expected = monoid.lower(own(monoid, monoid.lift(theirs), sets))
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3)
    cotangent = torch.randn_like(found)
    found.backward(cotangent)
    expected.backward(cotangent.double())
    assert ours.grad is not None and theirs.grad is not None
    torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-2, atol=1e-2)


def test_a_learned_temperature_and_other_logits() -> None:
    sets, rows = make_sets("shuffled")
    monoid = Softmax(CHANNELS, learn=True)
    x, logits = draw(rows, dtype=torch.float32), draw(rows, dtype=torch.float32)[:, :1]
    gradients = []
    for fold in (kernel, own):
        inputs = [x.clone().requires_grad_(), logits.clone().requires_grad_(), monoid.temperature]
        out = monoid.lower(fold(monoid, monoid.lift(inputs[0]), sets))
        weighed = monoid.lower(fold(monoid, monoid.lift(inputs[0], inputs[1]), sets))
        loss = (out.square() + weighed.sin()).sum()
        gradients.append([out, weighed, *torch.autograd.grad(loss, inputs)])
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_set_answers_alike_in_any_batch() -> None:
    """Bit for bit: where sums are cut depends on the set alone."""
    x = draw(700, dtype=torch.float32)
    alone = sets_of(torch.tensor([0, 700]), None, torch.zeros(700, dtype=torch.int64))
    more = torch.cat([draw(50, dtype=torch.float32), x, draw(9, dtype=torch.float32)])
    ptr = torch.tensor([0, 50, 750, 759])
    among = sets_of(ptr, None, torch.arange(3).repeat_interleave(ptr.diff()))
    for kind_of_monoid in MONOIDS:
        monoid = kind_of_monoid(CHANNELS)
        found = leaves(kernel(monoid, monoid.lift(more), among))
        expected = leaves(kernel(monoid, monoid.lift(x), alone))
        assert all(torch.equal(a[1], b[0]) for a, b in zip(found, expected, strict=True))


def test_any_shape_and_stride() -> None:
    sets, rows = make_sets("shuffled")
    x = torch.randn(4, rows, 2).transpose(0, 1)
    torch.testing.assert_close(kernel(Sum(), x, sets), own(Sum(), x, sets))
    torch.testing.assert_close(kernel(Max(), x[:, 0, 0], sets), own(Max(), x[:, 0, 0], sets))


def test_places_by_row_are_sorted_once() -> None:
    sets, rows = make_sets("gathered")
    assert sets.rows is not None
    first = cpu_chunks.Batch(sets, CHANNELS).by_row(rows)
    assert cpu_chunks.Batch(sets, CHANNELS).by_row(rows) is first
    assert cpu_chunks.Batch(sets, CHANNELS).by_row(rows + 1) is not first


def test_constants_that_are_expanded() -> None:
    """Which need not be read to be known."""
    sets, rows = make_sets("gathered")
    x = draw(rows)
    one, zero = x.new_ones(1, 1), x.new_zeros(1, 1)
    expanded: list[tuple[Monoid, State]] = [
        (Mean(CHANNELS), MeanState(x, one.expand(rows, 1))),
        (Moments(CHANNELS), MomentsState(one.expand(rows, 1), x, zero.expand_as(x))),
        (Softmax(CHANNELS), SoftmaxState(x, one.expand_as(x), x)),
    ]
    for monoid, state in expanded:
        found = leaves(kernel(monoid, state, sets))
        expected = leaves(own(monoid, monoid.lift(x), sets))
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)


def test_states_that_are_none_of_its_business() -> None:
    sets, rows = make_sets("sorted")
    x = draw(rows)
    weight = torch.rand(rows, dtype=x.dtype)
    monoids: list[Monoid] = [Mean(CHANNELS), Moments(CHANNELS), Softmax(CHANNELS)]
    for monoid in monoids:
        state = monoid.weigh(monoid.lift(x), weight.round())
        assert KERNELS[type(monoid)](monoid, state, sets) is None
    assert KERNELS[Sum](Sum(), x.long(), sets) is None
    assert KERNELS[Sum](Sum(), x.to("meta"), sets) is None
    assert KERNELS[Sum](Sum(), x[:-1], sets) is None
    empty, _ = make_sets("sorted", (0, 0))
    for kind_of_monoid in MONOIDS:
        lifted = kind_of_monoid(CHANNELS).lift(x[:0])
        assert KERNELS[kind_of_monoid](kind_of_monoid(CHANNELS), lifted, empty) is None
