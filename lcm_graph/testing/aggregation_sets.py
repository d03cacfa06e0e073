"""Nobody else's set matters: what a set's answer may depend on."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lcm_graph.testing.check import Measurement
from lcm_graph.testing.compare import expect_close, expect_equal, relative_error
from lcm_graph.testing.sets import AggregationSubject

INVARIANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
"""How far a set's answer may move with its batch mates (matrix products of another height)."""


def check_batch_invariance(subject: AggregationSubject) -> Measurement:
    """A set's answer is the same alone, beside smaller sets and beside bigger ones."""
    aggregation = subject.fresh()
    worst = 0.0
    for n in (1, 2, 3, 5, 8):
        x = subject.draw(n)
        alone = subject.alone(aggregation, x)
        for other in (1, 4, 16, 64):
            both = torch.cat([x, subject.draw(other, 5)])
            joined = aggregation(both, subject.index((n, other)))[:1]
            what = f"a set of {n} alone and beside a set of {other}"
            worst = max(
                worst, expect_close(joined, alone, what, INVARIANCE.get(subject.dtype, 1e-1))
            )
    return worst


def check_dim_size_invariance(subject: AggregationSubject) -> Measurement:
    """A set's answer does not depend on how many empty sets there are."""
    aggregation = subject.fresh()
    x = subject.draw(5)
    alone = subject.alone(aggregation, x)
    worst = 0.0
    for dim_size in (2, 10, 100):
        out = aggregation(x, torch.zeros(5, dtype=torch.long), dim_size=dim_size)[:1]
        what = f"a set of 5 with dim_size {dim_size} and 1"
        worst = max(worst, expect_close(out, alone, what, INVARIANCE.get(subject.dtype, 1e-1)))
    return worst


def check_nan_isolation(subject: AggregationSubject) -> Measurement:
    """NaNs in one set stay there, in answers and in gradients."""
    aggregation = subject.fresh()
    sizes = (3, 4, 2)
    index = subject.index(sizes)
    x = subject.draw(sum(sizes))
    poisoned = x.clone()
    poisoned[4] = torch.nan
    x.requires_grad_()
    poisoned.requires_grad_()
    clean, dirty = aggregation(x, index), aggregation(poisoned, index)
    expect_equal(dirty[[0, 2]], clean[[0, 2]], "sets of 3 and 2 beside a NaN in a set of 4")
    clean[[0, 2]].sum().backward()
    dirty[[0, 2]].sum().backward()
    assert x.grad is not None and poisoned.grad is not None
    others = index != 1
    expect_equal(poisoned.grad[others], x.grad[others], "gradients beside a NaN in a set of 4")
    return None


def check_permutation(subject: AggregationSubject) -> Measurement:
    """How much the order of a set's elements matters: nothing, if it is said not to."""
    aggregation = subject.fresh()
    errors = {}
    for n in (2, 3, 8, 17):
        x = subject.draw(n)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(subject.seed))
        one, other = subject.alone(aggregation, x), subject.alone(aggregation, x[order])
        errors[f"size {n}"] = relative_error(other, one)
        if subject.permutation_invariant:
            expect_close(other, one, f"a set of {n} in another order")
    return errors


CHECKS: tuple[Callable[[AggregationSubject], Measurement], ...] = (
    check_batch_invariance,
    check_dim_size_invariance,
    check_nan_isolation,
    check_permutation,
)
