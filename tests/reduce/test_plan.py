"""Invariants of the canonical tree."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from lcm_graph.monoids import TopK
from lcm_graph.reduce import FoldPlan, segment_reduce
from tests.references import index_of, ptr_of

sizes_lists = st.lists(st.integers(0, 40), max_size=8)


def plans(sizes: list[int], seed: int) -> list[FoldPlan]:
    """The plan of sorted sets, and that of the same sets shuffled."""
    index = index_of(sizes)
    order = torch.randperm(len(index), generator=torch.Generator().manual_seed(seed))
    return [FoldPlan.from_ptr(ptr_of(sizes)), FoldPlan.from_index(index[order], len(sizes))]


@given(sizes_lists, st.integers(0, 99))
def test_tree_invariants(sizes: list[int], seed: int) -> None:
    for plan in plans(sizes, seed):
        assert plan.num_sets == len(sizes)
        assert plan.num_elements == sum(sizes)
        assert plan.sizes.tolist() == sizes
        assert plan.depth == max([math.ceil(math.log2(s)) for s in sizes if s], default=0)

        lefts = [row for level in plan.levels for row in level.left.tolist()]
        rights = [row for level in plan.levels for row in level.right.tolist()]
        occupied = [s for s, size in enumerate(sizes) if size]
        assert len(rights) == len(lefts) == sum(sizes) - len(occupied)
        assert sorted([*rights, *plan.roots.tolist()]) == list(range(sum(sizes)))
        assert plan.index[plan.roots].tolist() == occupied
        assert (plan.occupied is None) == (len(occupied) == len(sizes))

        consumed: set[int] = set()
        for left, right in plan.levels:
            assert len(set(left.tolist())) == len(left) > 0
            assert not set(left.tolist()) & set(right.tolist())
            assert not consumed & {*left.tolist(), *right.tolist()}
            assert torch.equal(plan.index[left], plan.index[right])
            consumed |= set(right.tolist())


@given(sizes_lists, st.integers(0, 99))
def test_sequence_reads_every_set_in_order(sizes: list[int], seed: int) -> None:
    for plan in plans(sizes, seed):
        rows, batch_sizes, sets = plan.sequence
        assert [sizes[s] for s in sets] == sorted((s for s in sizes if s), reverse=True)
        read: dict[int, list[int]] = {int(s): [] for s in sets}
        start = 0
        for count in batch_sizes:
            for s, row in zip(sets.tolist(), rows[start : start + count].tolist(), strict=False):
                read[s].append(row)
            start += count
        assert start == sum(sizes)
        for s, got in read.items():
            assert got == (plan.index == s).nonzero().flatten().tolist()


@given(sizes_lists, st.integers(0, 99))
def test_top_two_of_any_ptr(sizes: list[int], seed: int) -> None:
    """Integers, so that the sorted reference must agree to the last bit, empties included."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-9, 9, (sum(sizes), 1), generator=generator).double()
    monoid = TopK(1, k=2, fill_value=-99.0)
    out = monoid.lower(segment_reduce(monoid, monoid.lift(x), ptr=ptr_of(sizes)))
    expected = []
    for start, end in zip(ptr_of(sizes)[:-1], ptr_of(sizes)[1:], strict=True):
        best = sorted(x[start:end, 0].tolist(), reverse=True)
        expected.append([*best, -99.0, -99.0][:2])
    assert out.tolist() == expected


@given(sizes_lists, st.integers(0, 99), st.integers(0, 3))
def test_repeat_and_order(sizes: list[int], seed: int, times: int) -> None:
    for plan in plans(sizes, seed):
        n = sum(sizes)
        repeated = plan.repeat(times)
        expected = [plan.index + k * len(sizes) for k in range(times)]
        assert repeated.num_elements == times * n
        assert repeated.index.tolist() == [int(i) for part in expected for i in part]
        keys = torch.randint(0, 3, (n,), generator=torch.Generator().manual_seed(seed))
        ordered = plan.ordered_by(keys)
        assert torch.equal(ordered.index, plan.index)
        for s in range(len(sizes)):
            start, end = plan.ptr[s], plan.ptr[s + 1]
            assert ordered.permutation is not None
            rows = ordered.permutation[start:end].tolist()
            assert rows == sorted(rows, key=lambda r: (int(keys[r]), r))


def test_shuffled_differs_and_keeps_the_sets() -> None:
    plan = FoldPlan.from_index(index_of((50, 50)))
    one = plan.shuffled(torch.Generator().manual_seed(0))
    two = plan.shuffled(torch.Generator().manual_seed(1))
    assert one.permutation is not None and two.permutation is not None
    assert not torch.equal(one.permutation, two.permutation)
    assert torch.equal(one.index, plan.index)
    assert sorted(one.permutation[:50].tolist()) == list(range(50))
