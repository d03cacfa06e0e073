"""Folds with a monoid: forms, orders, batches, dtypes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lcm_graph.monoids import Monoid
from lcm_graph.reduce import FoldPlan, segment_reduce, sequential_reduce, tree_reduce
from lcm_graph.testing.check import Measurement
from lcm_graph.testing.compare import expect, expect_close, expect_equal, relative_error
from lcm_graph.testing.subject import SIZES, MonoidSubject, describe, dtypes, ragged_index


def check_forms(subject: MonoidSubject) -> Measurement:
    """Closed form, tree and one-after-another agree where associativity is claimed."""
    monoid = subject.fresh()
    index = ragged_index(SIZES)
    x = subject.draw(len(index))
    plan = FoldPlan.from_index(index, len(SIZES))
    fold = monoid.lower(segment_reduce(monoid, monoid.lift(x), plan=plan))
    tree = monoid.lower(tree_reduce(monoid, monoid.lift(x), plan))
    line = monoid.lower(sequential_reduce(monoid, monoid.lift(x), index, dim_size=len(SIZES)))
    error = expect_close(fold, tree, f"segment_reduce against the tree on sizes {SIZES}")
    if monoid.associative:
        what = f"the tree against one element after another on sizes {SIZES}"
        return {"tree": error, "sequential": expect_close(tree, line, what)}
    return {"tree": error, "sequential": relative_error(tree, line)}


def check_permutation(subject: MonoidSubject) -> Measurement:
    """The order of a set's elements does not matter to a commutative, associative monoid."""
    monoid = subject.fresh()
    errors = []
    for n in (2, 3, 16, 17):
        x = subject.draw(n)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(subject.seed))
        one, other = (monoid.lower(segment_reduce(monoid, monoid.lift(v))) for v in (x, x[order]))
        errors.append(relative_error(other, one))
        if monoid.associative and monoid.commutative:
            expect_close(other, one, f"a set of {n} in another order")
    return max(errors)


def check_unsorted(subject: MonoidSubject) -> Measurement:
    """Interleaving the sets of a batch, each in its own order, changes nothing."""
    monoid = subject.fresh()
    index = ragged_index(SIZES)
    x = subject.draw(len(index))
    mixed = interleave(index, subject.seed)
    sorted_, shuffled = (
        monoid.lower(segment_reduce(monoid, monoid.lift(v), i, dim_size=len(SIZES)))
        for v, i in ((x, index), (x[mixed], index[mixed]))
    )
    return expect_close(shuffled, sorted_, f"unsorted index on sizes {SIZES}")


def check_batch_invariance(subject: MonoidSubject) -> Measurement:
    """A set's answer is the same alone, beside a set of 17, and beside one of 100."""
    monoid = subject.fresh()
    worst = 0.0
    for n in SIZES:
        x = subject.draw(n)
        alone = monoid.lower(
            segment_reduce(monoid, monoid.lift(x), x.new_zeros(n).long(), dim_size=1)
        )
        for other in (17, 100):
            both = torch.cat([x, subject.draw(other, 5)])
            fold = segment_reduce(monoid, monoid.lift(both), ragged_index((n, other)))
            joined = monoid.lower(fold)[:1]
            worst = max(worst, expect_close(joined, alone, f"a set of {n} beside one of {other}"))
    return worst


def check_empty(subject: MonoidSubject) -> Measurement:
    """An empty set answers like the identity, among others and in a batch of nothing."""
    monoid = subject.fresh()
    expected = monoid.lower(subject.empty(monoid, 2))
    states = monoid.lift(subject.draw(3))
    out = monoid.lower(segment_reduce(monoid, states, torch.tensor([1, 1, 1]), dim_size=3))
    expect_equal(out[[0, 2]], expected, "empty sets beside one of 3")
    nothing = monoid.lift(subject.draw(0))
    for dim_size in (0, 2):
        index = torch.zeros(0, dtype=torch.long)
        out = monoid.lower(segment_reduce(monoid, nothing, index, dim_size=dim_size))
        expect_equal(out, expected[:dim_size], f"{dim_size} sets without any element")
    return None


def check_singleton(subject: MonoidSubject) -> Measurement:
    """A set of one element answers like the element, in every form."""
    monoid = subject.fresh()
    x = subject.draw(5)
    expected = monoid.lower(monoid.lift(x))
    plan = FoldPlan.from_index(torch.arange(5))
    for fold in (segment_reduce, tree_reduce):
        out = monoid.lower(fold(monoid, monoid.lift(x), plan=plan))
        expect_equal(out, expected, f"{fold.__name__} of 5 sets of 1")
    return None


def check_dtypes(subject: MonoidSubject) -> Measurement:
    """float64, float32 and bfloat16 are kept, by states and by outputs, empty sets included."""
    index = ragged_index(SIZES)
    reference = None
    errors: dict[str, float] = {}
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        monoid = subject.fresh(dtype)
        x = subject.draw(len(index), 0, dtype)
        if not x.is_floating_point():
            return {"dtypes": "undefined"}
        states = monoid.lift(x)
        fold = segment_reduce(monoid, states, index, dim_size=len(SIZES))
        combined = monoid.combine(states, states)
        _expect_dtypes(monoid, subject, dtype, combined, dtypes(states), "combine")
        full = monoid.combine(states, subject.empty(monoid, len(index), dtype))
        if len(dtypes(full)) == len(dtypes(combined)):  # else one of them leaves presence out
            what = "combine with the identity"
            _expect_dtypes(monoid, subject, dtype, full, dtypes(combined), what)
        _expect_dtypes(monoid, subject, dtype, fold, dtypes(full), "segment_reduce")
        out = monoid.lower(fold)
        expect(out.dtype == dtype, f"lower: expected {dtype}, got {out.dtype}")
        reference = out if reference is None else reference
        errors[str(dtype)] = expect_close(out.to(dtype), reference.to(dtype), f"fold in {dtype}")
    return errors


def _expect_dtypes(
    monoid: Monoid,
    subject: MonoidSubject,
    dtype: torch.dtype,
    state: object,
    expected: list[torch.dtype],
    what: str,
) -> None:
    got = dtypes(state)
    expect(got == expected, f"{what} in {dtype}: expected {expected}, got {describe(state)}")


def interleave(index: Tensor, seed: int = 0) -> Tensor:
    """An order of rows that mixes the sets and keeps the order within each (int64 ``[n]``)."""
    order = torch.randperm(len(index), generator=torch.Generator().manual_seed(seed))
    by_set = index[order].argsort(stable=True)
    out = torch.empty_like(order)
    out[by_set] = index.argsort(stable=True)
    return out


CHECKS: tuple[Callable[[MonoidSubject], Measurement], ...] = (
    check_forms,
    check_permutation,
    check_unsorted,
    check_batch_invariance,
    check_empty,
    check_singleton,
    check_dtypes,
)
