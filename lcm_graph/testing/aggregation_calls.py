"""PyG's calling conventions: index, ptr, dim_size, dim."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lcm_graph.testing.check import Measurement
from lcm_graph.testing.compare import expect, expect_close, expect_equal
from lcm_graph.testing.monoid_folds import interleave
from lcm_graph.testing.sets import SIZES, AggregationSubject


def check_ptr_only(subject: AggregationSubject) -> Measurement:
    """``ptr`` alone says what a sorted ``index`` says."""
    aggregation = subject.fresh()
    index, x = subject.index(SIZES), subject.draw(sum(SIZES))
    expected = aggregation(x, index, dim_size=len(SIZES))
    return expect_close(
        aggregation(x, ptr=subject.ptr(SIZES)), expected, f"ptr against index on sizes {SIZES}"
    )


def check_index_and_ptr(subject: AggregationSubject) -> Measurement:
    """Both may be given."""
    aggregation = subject.fresh()
    index, x = subject.index(SIZES), subject.draw(sum(SIZES))
    expected = aggregation(x, index, dim_size=len(SIZES))
    both = aggregation(x, index, ptr=subject.ptr(SIZES))
    return expect_close(both, expected, f"index and ptr against index on sizes {SIZES}")


def check_unsorted_index(subject: AggregationSubject) -> Measurement:
    """The elements of a set need not lie together; those of a set keep their order here."""
    aggregation = subject.fresh()
    index, x = subject.index(SIZES), subject.draw(sum(SIZES))
    expected = aggregation(x, index, dim_size=len(SIZES))
    mixed = interleave(index, subject.seed)
    out = aggregation(x[mixed], index[mixed], dim_size=len(SIZES))
    return expect_close(out, expected, f"unsorted against sorted index on sizes {SIZES}")


def check_no_index(subject: AggregationSubject) -> Measurement:
    """Without ``index`` and ``ptr`` all elements make one set."""
    aggregation = subject.fresh()
    x = subject.draw(5)
    return expect_close(aggregation(x), subject.alone(aggregation, x), "5 elements, no index")


def check_dim_size(subject: AggregationSubject) -> Measurement:
    """``dim_size`` beyond the last index adds empty sets and changes no other."""
    aggregation = subject.fresh()
    index, x = subject.index(SIZES), subject.draw(sum(SIZES))
    plain, more = aggregation(x, index), aggregation(x, index, dim_size=len(SIZES) + 3)
    expect(
        more.size(0) == len(SIZES) + 3,
        f"dim_size={len(SIZES) + 3}: expected so many sets, got {more.size(0)}",
    )
    return expect_close(more[: len(SIZES)], plain, "the sets before those that dim_size adds")


def check_empty_sets(subject: AggregationSubject) -> Measurement:
    """Empty sets answer alike up to rounding, finitely, wherever and beside whatever they are."""
    aggregation = subject.fresh()
    small = aggregation(subject.draw(2), torch.tensor([1, 1]), dim_size=3)
    large = aggregation(subject.draw(9), torch.tensor([2] * 9), dim_size=4)
    expect(bool(small[0].isfinite().all()), f"an empty set: expected finite, got {small[0]}")
    return max(  # what comes after the fold may round rows by where they stand
        expect_close(small[2], small[0], "empty sets before and after a set of 2"),
        expect_close(large[[0, 1, 3]], small[[0, 0, 0]], "empty sets beside a set of 9 and of 2"),
    )


def check_empty_input(subject: AggregationSubject) -> Measurement:
    """No elements at all: ``dim_size`` empty sets, which answer as empty sets do elsewhere."""
    aggregation = subject.fresh()
    nothing = torch.zeros(0, dtype=torch.long)
    empty = aggregation(subject.draw(2), torch.tensor([1, 1]), dim_size=2)[:1]
    return max(
        expect_close(
            aggregation(subject.draw(0), nothing, dim_size=dim_size),
            empty.expand(dim_size, -1),
            f"no elements, dim_size={dim_size}",
        )
        for dim_size in (3, 0)
    )


def check_positional(subject: AggregationSubject) -> Measurement:
    """The order of arguments is PyG's: ``aggr(x, index, ptr, dim_size, dim)``."""
    aggregation = subject.fresh()
    index, x = subject.index(SIZES), subject.draw(sum(SIZES))
    out = aggregation(x, index, None, len(SIZES) + 1, -2)
    expected = aggregation(x, index, dim_size=len(SIZES) + 1)
    expect_equal(out, expected, "positional against keyword arguments")
    return None


def check_negative_dim(subject: AggregationSubject) -> Measurement:
    """``dim=0`` and ``dim=-2`` are the same of a matrix."""
    aggregation = subject.fresh()
    index, x = subject.index(SIZES), subject.draw(sum(SIZES))
    expect_equal(aggregation(x, index, dim=0), aggregation(x, index, dim=-2), "dim=0 against -2")
    return None


def check_leading_dims(subject: AggregationSubject) -> Measurement:
    """``[B, n, F]`` with dim -2 and 1, and ``[n, B, F]`` with dim 0, aggregate each of B alone."""
    aggregation = subject.fresh()
    index, n = subject.index(SIZES), sum(SIZES)
    x = torch.stack([subject.draw(n, salt) for salt in (0, 1)])
    expected = torch.stack([aggregation(one, index) for one in x])
    worst = 0.0
    for dim in (-2, 1):
        out = aggregation(x, index, dim=dim)
        worst = max(worst, expect_close(out, expected, f"shape {tuple(x.shape)} with dim={dim}"))
    swapped = aggregation(x.transpose(0, 1), index, dim=0)
    what = f"shape {(n, 2, subject.in_channels)} with dim=0"
    return max(worst, expect_close(swapped.transpose(0, 1), expected, what))


CHECKS: tuple[Callable[[AggregationSubject], Measurement], ...] = (
    check_ptr_only,
    check_index_and_ptr,
    check_unsorted_index,
    check_no_index,
    check_dim_size,
    check_empty_sets,
    check_empty_input,
    check_positional,
    check_negative_dim,
    check_leading_dims,
)
