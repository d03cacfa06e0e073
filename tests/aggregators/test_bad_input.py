"""Wrong calls: the exception names the argument and says what it was."""

# mypy: disable-error-code="arg-type,return-value"
# Wrong types are what this file is about.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from lcm_graph.aggregators import (
    LCMAggregation,
    MixAggregation,
    MonoidAggregation,
    RecurrentAggregation,
    SumAggregation,
)
from lcm_graph.aggregators.recurrent import RecurrentAggregation as Recurrent
from lcm_graph.monoids import (
    BinaryGRU,
    BinaryMLP,
    KeyedTopK,
    Max,
    Moments,
    Normalized,
    Product,
    Rotation,
    Softmax,
    Sum,
    Symmetrized,
    TopK,
)
from lcm_graph.reduce import FoldPlan, segment_reduce, tree_reduce
from lcm_graph.testing import check_aggregation, check_monoid

X = torch.ones(4, 3)
I64 = torch.int64


def aggregate(**kwargs: Any) -> Callable[[], Any]:
    return lambda: SumAggregation()(X, **kwargs)


def reduce(**kwargs: Any) -> Callable[[], Any]:
    return lambda: segment_reduce(Sum(3), X, **kwargs)


def t(*values: Any, dtype: torch.dtype | None = None) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype)


INDEX = {
    "float": (t(0.0, 0, 1, 1), r"'index' must hold integers \(got torch.float32\)"),
    "bool": (t(True, False, True, True), r"'index' must hold integers \(got torch.bool\)"),
    "2-D": (
        torch.zeros(4, 1, dtype=I64),
        r"'index' must be one-dimensional \(got shape \(4, 1\)\)",
    ),
    "negative": (t(0, -2, 1, 1), r"'index' must not be negative \(got -2\)"),
    "short": (t(0, 0, 1), r"'index' must have one entry for each of the 4 elements \(got 3\)"),
    "long": (t(0, 0, 1, 1, 1), r"'index' must have one entry.* 4 elements \(got 5\)"),
}
PTR = {
    "float": (t(0.0, 2, 4), r"'ptr' must hold integers \(got torch.float32\)"),
    "2-D": (torch.zeros(1, 3, dtype=I64), r"'ptr' must be one-dimensional \(got shape \(1, 3\)\)"),
    "empty": (torch.zeros(0, dtype=I64), r"'ptr' must have one more entry.*\(got 0 entries\)"),
    "decreasing": (t(0, 3, 2, 4), r"'ptr' must not decrease \(got 3 and then 2 at position 1\)"),
    "start": (t(1, 2, 4), r"'ptr' must begin with 0.*\(got 1"),
    "short": (t(0, 2, 3), r"'ptr' must.* end with the number of elements, 4 \(got.*3\)"),
    "long": (t(0, 2, 5), r"'ptr' must.* end with the number of elements, 4 \(got.*5\)"),
}
PLAN = FoldPlan.from_index(t(0, 0, 1))
WRONG: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    **{f"index-{k}": (aggregate(index=v), ValueError, m) for k, (v, m) in INDEX.items()},
    **{f"reduce-index-{k}": (reduce(index=v), ValueError, m) for k, (v, m) in INDEX.items()},
    **{f"ptr-{k}": (aggregate(ptr=v), ValueError, m) for k, (v, m) in PTR.items()},
    **{f"reduce-ptr-{k}": (reduce(ptr=v), ValueError, m) for k, (v, m) in PTR.items()},
    "index-beyond-dim_size": (
        aggregate(index=t(0, 5, 1, 1), dim_size=3),
        ValueError,
        r"'index' must be below 'dim_size' \(got index 5 and dim_size 3\).*dim_size=6",
    ),
    "reduce-index-list": (
        reduce(index=[0, 0, 1, 1]),
        ValueError,
        r"'index' must be a tensor.*list",
    ),
    "reduce-ptr-list": (reduce(ptr=[0, 4]), ValueError, r"'ptr' must be a tensor \(got list\)"),
    "from_index-list": (lambda: FoldPlan.from_index([0]), ValueError, r"'index' must be a tensor"),
    "from_ptr-list": (lambda: FoldPlan.from_ptr([0]), ValueError, r"'ptr' must be a tensor"),
    "from_ptr-empty": (
        lambda: FoldPlan.from_ptr(torch.zeros(0, dtype=I64)),
        ValueError,
        r"'ptr'.*got 0 entries",
    ),
    "from_ptr-decreasing": (
        lambda: FoldPlan.from_ptr(t(0, 3, 1)),
        ValueError,
        r"'ptr' must not decrease \(got 3.*1",
    ),
    "reduce-dim_size-negative": (
        reduce(index=t(0, 0, 0, 0), dim_size=-1),
        ValueError,
        r"'dim_size' must be an integer from 0 up \(got -1\)",
    ),
    "reduce-dim_size-alone": (reduce(dim_size=2), ValueError, r"one set \(got dim_size 2\)"),
    "ptr-dim_size": (aggregate(ptr=t(0, 2, 4), dim_size=3), ValueError, r"'dim_size'.*'3'.*'2'"),
    "reduce-ptr-dim_size": (
        reduce(ptr=t(0, 2, 4), dim_size=3),
        ValueError,
        r"'dim_size' must be .* 2 \(got 3\)",
    ),
    "index-against-ptr": (
        aggregate(index=t(0, 1, 1, 1), ptr=t(0, 2, 4)),
        ValueError,
        r"'index' and 'ptr' name diff",
    ),
    "index-unsorted-with-ptr": (
        aggregate(index=t(1, 0, 1, 0), ptr=t(0, 2, 4)),
        ValueError,
        r"'index' and 'ptr' .*sorted",
    ),
    "dim-beyond": (aggregate(dim=2), ValueError, r"invalid dimension '2'.*2 dimensions"),
    "dim-below": (aggregate(dim=-3), ValueError, r"invalid dimension '-3'.*2 dimensions"),
    "dim-last": (
        aggregate(dim=-1),
        ValueError,
        r"'dim' must leave the last .*\(got dim -1 .*\(4, 3\)\)",
    ),
    "dim-last-positive": (aggregate(dim=1), ValueError, r"'dim' must leave .*\(got dim 1"),
    "x-1-D": (
        lambda: SumAggregation()(torch.ones(4)),
        ValueError,
        r"'x' must be \[\.\.\., elements, features\] \(got shape \(4,\)\)",
    ),
    "x-integer": (
        lambda: SumAggregation()(X.long()),
        ValueError,
        r"floating-point elements \(got torch.int64\)",
    ),
    "x-integer-lcm": (
        lambda: LCMAggregation(3, 4)(X.long()),
        ValueError,
        r"floating-point.*got torch.int64",
    ),
    "x-integer-gru": (
        lambda: RecurrentAggregation(3, 4)(X.long()),
        ValueError,
        r"floating-point.*torch.int64",
    ),
    "features-lcm": (
        lambda: LCMAggregation(5, 4)(X),
        ValueError,
        r"LCMAggregation .* 5 features \(got .*\(4, 3\)",
    ),
    "features-gru": (
        lambda: Recurrent(5, 4)(X),
        ValueError,
        r"RecurrentAggregation .* 5 features \(got .*\(4, 3",
    ),
    "features-monoid": (
        lambda: SumAggregation(5)(X),
        ValueError,
        r"Sum takes elements \[n, 5\] \(got shape \(4, 3\)",
    ),
    "weight-length": (
        aggregate(weight=torch.ones(3)),
        ValueError,
        r"'weight' .* 4 elements \(got shape \(3,\)\)",
    ),
    "weight-2-D": (
        aggregate(weight=torch.ones(4, 1)),
        ValueError,
        r"'weight' .*got shape \(4, 1\)\)",
    ),
    "weight-integer": (
        lambda: MonoidAggregation(Max())(X, weight=torch.ones(4, dtype=I64)),
        ValueError,
        r"'weight' must be floating.point.*got torch.int64",
    ),
    "weight-bool": (
        lambda: MonoidAggregation(Max())(X, weight=torch.ones(4, dtype=torch.bool)),
        ValueError,
        r"'weight' must be floating.point.*got torch.bool",
    ),
    "plan-size": (reduce(plan=PLAN), ValueError, r"'plan' is for 3 elements \(got 4\)"),
    "plan-size-tree": (
        lambda: tree_reduce(Sum(3), X, PLAN),
        ValueError,
        r"'plan' is for 3 elements \(got 4\)",
    ),
    "plan-and-index": (
        reduce(plan=PLAN, index=t(0, 0, 1, 1)),
        ValueError,
        r"'plan' already says .*leave out index",
    ),
    "plan-and-dim_size": (reduce(plan=PLAN, dim_size=2), ValueError, r"'plan' .*dim_size"),
    "states-list": (
        lambda: segment_reduce(Sum(3), [X]),
        ValueError,
        r"'states' must be a tensor.*got list",
    ),
    "states-disagree": (
        lambda: segment_reduce(Sum(3), (X, X[:2])),
        ValueError,
        r"'states' .*\(4, 3\), \(2, 3\)",
    ),
    "states-scalar": (
        lambda: segment_reduce(Sum(3), torch.ones(())),
        ValueError,
        r"'states' .*got shapes \[\(\)\]",
    ),
    "order": (
        lambda: LCMAggregation(3, 4, order="rnd"),
        ValueError,
        r"'order' must be .*got 'rnd'",
    ),
    "order-monoid": (
        lambda: MonoidAggregation(Sum(3), order="x"),
        ValueError,
        r"'order' must be .*got 'x'",
    ),
    "cell": (lambda: RecurrentAggregation(3, 4, "tcn"), ValueError, r"'cell' must be .*got 'tcn'"),
    "bidirectional": (
        lambda: RecurrentAggregation(3, 4, bidirectional=True),
        ValueError,
        r"'bidirectional'",
    ),
    "project": (
        lambda: LCMAggregation(3, 4, project=False),
        ValueError,
        r"'project' must be True .*3 and 4",
    ),
    "operator-no-monoid": (
        lambda: LCMAggregation(3, 4, operator=lambda c: nn.GRUCell(c, c)),
        TypeError,
        r"'operator' must be a Monoid.*got GRUCell",
    ),
    "operator-module": (
        lambda: LCMAggregation(3, 4, operator=nn.GRUCell(4, 4)),
        TypeError,
        r"'operator' must be a Monoid.*got GRUCell",
    ),
    "dtype-lcm": (
        lambda: LCMAggregation(3, 4)(torch.ones(5, 3).double(), torch.zeros(5).long()),
        ValueError,
        r"LCMAggregation has parameters of torch.float32 \(got elements of torch.float64\); "
        r"convert either, by x.to\(torch.float32\) or aggr.to\(torch.float64\)",
    ),
    "dtype-recurrent": (
        lambda: RecurrentAggregation(3, 4)(torch.ones(5, 3).bfloat16(), torch.zeros(5).long()),
        ValueError,
        r"RecurrentAggregation has parameters of torch.float32 \(got elements of torch.bfloat16",
    ),
    "operator-string": (
        lambda: LCMAggregation(3, 4, operator="gru"),
        TypeError,
        r"'operator' must be a Monoid.*got 'gru'",
    ),
    "operator-on-pairs": (
        lambda: LCMAggregation(3, 4, operator=torch.lerp),
        TypeError,
        r"'operator' could not be called.*Symmetrized\(op, 4\)",
    ),
    "operator-channels": (
        lambda: LCMAggregation(3, 4, operator=BinaryGRU(5)),
        ValueError,
        r"'operator' must take and give 'out_channels' = 4 features \(got BinaryGRU\(5\)\)",
    ),
    "operator-out": (
        lambda: LCMAggregation(3, 4, operator=TopK(4, 2)),
        ValueError,
        r"'operator' must take and give 'out_channels' = 4 features \(got TopK",
    ),
    "monoid": (
        lambda: MonoidAggregation(nn.Linear(2, 2)),
        TypeError,
        r"'monoid' must be a Monoid.*got Linear",
    ),
    "monoid-class": (
        lambda: MonoidAggregation(Sum),
        TypeError,
        r"'monoid' must be a Monoid.*got <class .*Sum",
    ),
    "product-channels": (lambda: Product(Sum(3), Max(4)), ValueError, r"channels \(got .*Sum\(3\)"),
    "product-nothing": (lambda: Product(), ValueError, r"one or more monoids \(got none\)"),
    "product-other": (
        lambda: Product(Sum(3), nn.ReLU()),
        TypeError,
        r"'Product' takes monoids \(got ReLU\)",
    ),
    "topk-0": (lambda: TopK(3, k=0), ValueError, r"'k' must be a positive integer \(got 0\)"),
    "topk-True": (
        lambda: TopK(3, k=True),
        ValueError,
        r"'k' must be a positive integer \(got True",
    ),
    "topk-no-channels": (
        lambda: TopK().identity(2),
        ValueError,
        r"TopK\(.*TopK\(64",
    ),
    "statistics": (
        lambda: Moments(3, ("mean", "skew")),
        ValueError,
        r"'statistics' .*got \('mean', 'skew'\)",
    ),
    "statistics-string": (lambda: Moments(3, "std"), ValueError, r"'statistics' .*got 'std'\)"),
    "statistics-none": (lambda: Moments(3, ()), ValueError, r"'statistics' .*got \(\)\)"),
    "hidden": (lambda: BinaryMLP(3, hidden=0), ValueError, r"'hidden' must be .*got 0\)"),
    "hidden-string": (lambda: BinaryMLP(3, hidden="8"), ValueError, r"'hidden' must be .*got '8'"),
    "op-not-callable": (lambda: Symmetrized(3, 3), TypeError, r"'op' must be callable \(got int\)"),
    "op-shape": (
        lambda: MonoidAggregation(Symmetrized(lambda a, b: (a + b)[:, :2], 3))(X),
        ValueError,
        r"'op' must give the shape of its operands, \(\d, 3\) \(got \(\d, 2\)\)",
    ),
    "inverse": (lambda: Max(3).inverse(X), TypeError, r"Max has no inverse"),
    "identity": (lambda: Sum().identity(1), ValueError, r"Sum\(\) has no known shape.*Sum\(64\)"),
    "softmax-temperature": (
        lambda: Softmax(3, temperature="hot"),
        ValueError,
        r"'temperature' must be a number \(got 'hot'\)",
    ),
    "check_monoid-channels": (lambda: check_monoid(Sum()), ValueError, r"'channels' must be given"),
    "check_monoid-type": (
        lambda: check_monoid(nn.ReLU()),
        TypeError,
        r"'monoid' must be a Monoid \(got ReLU\)",
    ),
    "check_aggregation-type": (
        lambda: check_aggregation(nn.ReLU(), 3),
        TypeError,
        r"'aggregation' must be .*got ReLU",
    ),
}


@pytest.mark.parametrize(("call", "kind", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_call(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"(?s){message}"):
        call()


@pytest.mark.parametrize("channels", [0, -1, "64", 2.0, True], ids=repr)
@pytest.mark.parametrize("make", [LCMAggregation, RecurrentAggregation])
@pytest.mark.parametrize("which", ["in_channels", "out_channels"])
def test_wrong_sizes(which: str, make: Any, channels: Any) -> None:
    sizes = {"in_channels": 3, "out_channels": 3, which: channels}
    with pytest.raises(ValueError, match=rf"'{which}' must be .*got {channels!r}\)"):
        make(**sizes)


@pytest.mark.parametrize("channels", [0, -1, "64", 2.0, True], ids=repr)
@pytest.mark.parametrize("make", [Sum, TopK, Moments, BinaryGRU, BinaryMLP])
def test_wrong_channels(make: Any, channels: Any) -> None:
    with pytest.raises(ValueError, match=rf"'channels' must be .*got {channels!r}\)"):
        make(channels)


@pytest.mark.parametrize("make", [BinaryGRU, BinaryMLP])
def test_learned_monoids_need_channels(make: Any) -> None:
    with pytest.raises(ValueError, match=r"'channels' .* must be given \(got None\)"):
        make(None)


def test_empty_leading_dimension() -> None:
    """No batches of sets: no answer, in the shape that answers would have."""
    for aggregation in (SumAggregation(3), LCMAggregation(3, 5), RecurrentAggregation(3, 5)):
        out = aggregation(torch.ones(0, 4, 3), torch.tensor([0, 1, 1, 0]), dim_size=2)
        assert out.shape == (0, 2, 3 if isinstance(aggregation, SumAggregation) else 5)


def test_no_sets_with_a_leading_dimension() -> None:
    out = LCMAggregation(3, 5)(torch.ones(2, 0, 3), torch.zeros(0, dtype=I64), dim_size=0)
    assert out.shape == (2, 0, 5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: LCMAggregation(4, 4, assoc=1.0),
            "LCMAggregation got an unexpected keyword 'assoc'",
        ),
        (lambda: MonoidAggregation(Sum(4), swap=1.0), "MonoidAggregation got an unexpected"),
        (lambda: MixAggregation(4, assoc=1.0), "MixAggregation got an unexpected keyword 'assoc'"),
        (
            lambda: RecurrentAggregation(4, 4, associativity=1.0),
            r"RecurrentAggregation takes .* of torch.nn.GRU \(got associativity\)",
        ),
        (lambda: LCMAggregation(4, 4, operator=Normalized), r"lambda channels: Normalized\(Binary"),
    ],
)
def test_keywords_that_are_none(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: LCMAggregation(3, 3)(X, [0, 0, 1, 1]), TypeError, "'index' .*list.*as_tensor"),
        (lambda: SumAggregation()(X, ptr=[0, 4]), TypeError, r"'ptr' must be a tensor \(got list"),
        (lambda: SumAggregation()([[1.0]]), TypeError, r"'x' must be a tensor \(got list"),
        (
            lambda: LCMAggregation(8, 8)(X),
            ValueError,
            r"8 features \(got shape \(4, 3\)\); its first argument .*: here 3",
        ),
    ],
)
def test_what_is_no_tensor_or_has_other_features(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("monoid", [KeyedTopK, Rotation])
def test_monoids_of_a_fixed_width_want_it(monoid: Callable[[Any], object]) -> None:
    with pytest.raises(ValueError, match=r"'channels' must be a positive integer \(got None\)"):
        monoid(None)
