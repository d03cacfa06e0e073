"""Monoids against torch's and numpy's idea of the same thing, set by set."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lcm_graph.monoids import (
    BinaryGRU,
    BinaryMLP,
    LogSumExp,
    Max,
    Mean,
    Min,
    Moments,
    Monoid,
    Softmax,
    Sum,
    TopK,
)
from lcm_graph.reduce import FoldPlan, segment_reduce, sequential_reduce, tree_reduce
from tests.references import error, gradients, index_of

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
SIZES = (4, 0, 1, 2, 11)


def top(k: int, largest: bool, fill: float) -> Callable[[Tensor], Tensor]:
    def reference(x: Tensor) -> Tensor:
        best = x.sort(dim=0, descending=largest).values[:k]
        return torch.cat([best, x.new_full((k - len(best), x.size(1)), fill)]).flatten()

    return reference


def moments(correction: int) -> Callable[[Tensor], Tensor]:
    def reference(x: Tensor) -> Tensor:
        zeros = x.new_zeros(x.size(1))
        mean = x.mean(0) if len(x) else zeros
        var = x.var(0, correction=correction) if len(x) > correction else zeros
        std = var.sqrt() if len(x) > 1 else zeros
        return torch.cat([mean, var, std])

    return reference


def or_zero(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: function(x) if len(x) else x.new_zeros(x.size(1))


STATISTICS = ("mean", "var", "std")
CASES: dict[str, tuple[Monoid, Callable[[Tensor], Tensor]]] = {
    "sum": (Sum(3), lambda x: x.sum(0)),
    "mean": (Mean(3), or_zero(lambda x: x.mean(0))),
    "max": (Max(3), or_zero(lambda x: x.amax(0))),
    "min": (Min(3, fill_value=0.0), or_zero(lambda x: x.amin(0))),
    "logsumexp": (LogSumExp(3), or_zero(lambda x: x.logsumexp(0))),
    "softmax": (Softmax(3, 2.0), lambda x: (torch.softmax(2 * x, dim=0) * x).sum(0)),
    "moments": (Moments(3, STATISTICS), moments(0)),
    "unbiased": (Moments(3, STATISTICS, unbiased=True), moments(1)),
    "top1": (TopK(3, 1), top(1, True, 0.0)),
    "top2": (TopK(3, 2), top(2, True, 0.0)),
    "top3": (TopK(3, 3, fill_value=-1.0), top(3, True, -1.0)),
    "top4": (TopK(3, 4), top(4, True, 0.0)),
    "top8": (TopK(3, 8), top(8, True, 0.0)),
    "bottom3": (TopK(3, 3, largest=False), top(3, False, 0.0)),
    "bottom4": (TopK(3, 4, largest=False), top(4, False, 0.0)),
}


@pytest.mark.parametrize("fold", [segment_reduce, tree_reduce])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("monoid", "reference"), CASES.values(), ids=CASES.keys())
def test_values_and_gradients(monoid, reference, dtype, fold) -> None:
    index = index_of(SIZES)[torch.randperm(sum(SIZES))]
    x = torch.randn(sum(SIZES), 3, dtype=dtype, requires_grad=True)
    out = monoid.lower(fold(monoid, monoid.lift(x), plan=FoldPlan.from_index(index, len(SIZES))))
    expected = torch.stack([reference(x[index == s]) for s in range(len(SIZES))])
    assert error(out, expected) <= TOLERANCE[dtype]
    assert error(gradients(out, [x])[0], gradients(expected, [x])[0]) <= 10 * TOLERANCE[dtype]


def test_moments_do_not_cancel() -> None:
    """A large mean leaves the variance its digits."""
    x = 1e6 + torch.randn(1000, 1, dtype=torch.float64)
    monoid = Moments(1, ("var",))
    expected = x.var(0, correction=0)
    for fold in (segment_reduce, tree_reduce):
        plan = FoldPlan.from_index(torch.zeros(1000, dtype=torch.long))
        assert error(monoid.lower(fold(monoid, monoid.lift(x), plan=plan))[0], expected) <= 1e-8
        single = monoid.lower(fold(monoid, monoid.lift(x.float()), plan=plan))
        assert error(single[0], x.float().double().var(0, correction=0)) <= 1e-2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_does_not_stop_counting(dtype: torch.dtype) -> None:
    """A running bfloat16 sum of ones stops at 256."""
    ones = torch.ones(1000, 1, dtype=dtype)
    for monoid in (Sum(1), Mean(1), Moments(1, ("mean",))):
        out = monoid.lower(segment_reduce(monoid, monoid.lift(ones)))
        assert out.dtype == dtype
        assert out.item() == (1000 if isinstance(monoid, Sum) else 1)


@pytest.mark.parametrize("monoid", [LogSumExp(1), Softmax(1), Max(1), Mean(1)], ids=repr)
def test_large_numbers_do_not_overflow(monoid: Monoid) -> None:
    x = torch.tensor([[1e4], [1e4], [-1e4]], requires_grad=True)
    for fold in (segment_reduce, tree_reduce):
        plan = FoldPlan.from_index(torch.zeros(3, dtype=torch.long))
        out = monoid.lower(fold(monoid, monoid.lift(x), plan=plan))
        assert out.isfinite().all()
        assert torch.autograd.grad(out.sum(), x)[0].isfinite().all()


def test_topk_keeps_duplicates() -> None:
    x = torch.tensor([[2.0], [5.0], [5.0], [1.0]])
    monoid = TopK(1, k=3)
    assert monoid.lower(segment_reduce(monoid, monoid.lift(x))).tolist() == [[5.0, 5.0, 2.0]]


def test_softmax_with_logits_is_attention() -> None:
    values, logits = torch.randn(7, 3, requires_grad=True), torch.randn(7, 1, requires_grad=True)
    monoid = Softmax(3)
    index = index_of((4, 3))
    out = monoid.lower(segment_reduce(monoid, monoid.lift(values, logits), index))
    parts = zip(values.split([4, 3]), logits.split([4, 3]), strict=True)
    expected = torch.stack([(torch.softmax(part, 0) * v).sum(0) for v, part in parts])
    for got, wanted in zip(
        [out, *gradients(out, [values, logits])],
        [expected, *gradients(expected, [values, logits])],
        strict=True,
    ):
        assert error(got, wanted) <= TOLERANCE[torch.float32]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_binary_gru_is_the_mean_of_two_cells(dtype: torch.dtype) -> None:
    cell = nn.GRUCell(5, 5).to(dtype)
    monoid = BinaryGRU(5).to(dtype)
    assert monoid.load_state_dict(cell.state_dict(), strict=False).missing_keys == ["empty"]
    a = torch.randn(9, 5, dtype=dtype, requires_grad=True)
    b = torch.randn(9, 5, dtype=dtype, requires_grad=True)
    out, expected = monoid.operator(a, b), (cell(a, b) + cell(b, a)) / 2
    assert error(out, expected) <= TOLERANCE[dtype]
    names = [name for name, _ in cell.named_parameters()]
    ours = gradients(out, [a, b, *(monoid.get_parameter(name) for name in names)])
    theirs = gradients(expected, [a, b, *cell.parameters()])
    for got, wanted in zip(ours, theirs, strict=True):
        assert error(got, wanted) <= 10 * TOLERANCE[dtype]


def test_binary_mlp_is_the_mean_of_two_perceptrons() -> None:
    monoid = BinaryMLP(4, hidden=6).double()
    weight_a = monoid.weight_sum + monoid.weight_diff
    weight_b = monoid.weight_sum - monoid.weight_diff

    def perceptron(a: Tensor, b: Tensor) -> Tensor:
        hidden = nn.functional.gelu(a @ weight_a.T + b @ weight_b.T + monoid.bias)
        return hidden @ monoid.out.weight.T + monoid.out.bias

    a, b = torch.randn(2, 9, 4, dtype=torch.float64)
    expected = (perceptron(a, b) + perceptron(b, a)) / 2
    assert error(monoid.operator(a, b), expected) <= TOLERANCE[torch.float64]


def test_learned_empty_answers_and_learns() -> None:
    monoid = BinaryGRU(2)
    nn.init.constant_(monoid.empty, 3.0)
    states = monoid.lift(torch.randn(3, 2))
    out = monoid.lower(segment_reduce(monoid, states, torch.tensor([1, 1, 1]), dim_size=3))
    assert out[[0, 2]].tolist() == [[3.0, 3.0]] * 2
    out.sum().backward()
    assert monoid.empty.grad is not None and monoid.empty.grad.tolist() == [2.0, 2.0]


def test_absence_hides_what_is_absent() -> None:
    """Not even a NaN of an element of weight 0 gets into the fold."""
    monoid = BinaryGRU(2)
    x = torch.randn(4, 2)
    spoilt = torch.cat([x, torch.full((1, 2), torch.nan)])
    weight = torch.tensor([1.0, 1, 1, 1, 0])
    states = monoid.weigh(monoid.lift(spoilt), weight)
    out = monoid.lower(segment_reduce(monoid, states))
    expected = monoid.lower(segment_reduce(monoid, monoid.lift(x)))
    assert error(out, expected) <= 1e-6
    alone = monoid.weigh(monoid.lift(spoilt[4:]), torch.zeros(1))
    assert monoid.lower(segment_reduce(monoid, alone)).tolist() == [[0.0, 0.0]]


def test_absence_hides_gradients_too() -> None:
    """A NaN of weight 0 leaves the gradients of the other elements and of parameters alone."""
    monoids: list[Monoid] = [BinaryGRU(2), Sum(2), Mean(2), Max(2), TopK(2), LogSumExp(2)]
    for monoid in [*monoids, Softmax(2)]:
        x = torch.randn(5, 2)
        x[4] = torch.nan
        x.requires_grad_()
        states = monoid.weigh(monoid.lift(x), torch.tensor([1.0, 1, 1, 1, 0]))
        out = monoid.lower(segment_reduce(monoid, states))
        out.square().sum().backward()
        kept = x.detach()[:4].requires_grad_()
        expected = monoid.lower(segment_reduce(monoid, monoid.lift(kept)))
        (grad,) = torch.autograd.grad(expected.square().sum(), kept)
        assert error(out, expected) <= 1e-6, monoid
        assert x.grad is not None and error(x.grad[:4], grad) <= 1e-5, monoid
        for parameter in monoid.parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), monoid


def test_fractional_weights_commute_to_the_last_bit() -> None:
    monoid = BinaryGRU(4)
    a, b = (monoid.weigh(monoid.lift(torch.randn(9, 4)), torch.rand(9)) for _ in range(2))
    ab, ba = monoid.combine(a, b), monoid.combine(b, a)
    assert ab.present is not None and ba.present is not None
    assert torch.equal(ab.value, ba.value) and torch.equal(ab.present, ba.present)


@pytest.mark.parametrize("mean", [0.0, 1e3, 1e4])
def test_moments_of_a_large_set_far_from_zero(mean: float) -> None:
    x = torch.randn(300_000, 1) + mean
    monoid = Moments(1, statistics=("mean", "var"))
    got = monoid.lower(segment_reduce(monoid, monoid.lift(x))).flatten()
    var, expected = torch.var_mean(x.double(), correction=0)
    assert abs(got[0] - expected) <= 1e-6 * max(1, abs(mean)) + 2e-4
    assert abs(got[1] / var - 1) <= 5e-3


def test_half_precision_mean_does_not_overflow() -> None:
    monoid = Mean(1)
    x = torch.full((1000, 1), 100.0, dtype=torch.float16)
    for fold in (segment_reduce, sequential_reduce):
        assert monoid.lower(fold(monoid, monoid.lift(x))).item() == 100


def test_max_shares_the_gradient_of_ties() -> None:
    for monoid, shares in ((Max(1), [0.5, 0.5, 0.0]), (Min(1), [0.0, 0.0, 1.0])):
        x = torch.tensor([[2.0], [2.0], [1.0]], requires_grad=True)
        monoid.lower(segment_reduce(monoid, monoid.lift(x))).sum().backward()
        assert x.grad is not None and x.grad.flatten().tolist() == shares


def test_moments_of_a_set_with_a_nan() -> None:
    monoid = Moments(1)
    x = torch.tensor([[1.0], [2.0], [torch.nan], [5.0], [5.0]])
    out = monoid.lower(segment_reduce(monoid, monoid.lift(x), torch.tensor([0, 0, 0, 1, 1])))
    assert out[0].isnan().all()
    assert torch.equal(out[1], torch.tensor([5.0, 0.0]))
