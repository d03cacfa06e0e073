"""The tables of tasks: every element in one task, every task in one launch."""

from __future__ import annotations

import pytest
import torch

from lcm_graph.kernels.segment.tasks import BINS, LEAVES, plan, transpose
from tests.kernels.segment.batches import HUB, SIZES, batch, gather, index
from tests.references import ptr_of


@pytest.mark.parametrize(
    "sizes", [[], [0, 0], [1], SIZES, [HUB, 0, 2], [LEAVES**2 + 1, 5], [LEAVES**2]], ids=str
)
def test_covers_every_element_once(sizes: list[int]) -> None:
    segments = batch(sizes)
    places = sum(sizes)
    answered = []
    for stage in segments.stages:
        covered = torch.zeros(places, dtype=torch.int64)
        targets = []
        for launch in stage.launches:
            assert launch.levels in BINS
            assert (launch.size <= 1 << launch.levels).all()
            for first, size in zip(launch.first.tolist(), launch.size.tolist(), strict=True):
                covered[first : first + size] += 1
            if launch.whole:
                answered += launch.owner.tolist()
            else:
                targets += launch.target.tolist()
        assert (covered == 1).all()
        assert targets == list(range(stage.partials))
        places = stage.partials
    assert sorted(answered) == list(range(len(sizes)))
    assert places == 0


def test_subtrees_are_counted_from_the_start_of_their_set() -> None:
    (launch,) = [launch for launch in plan(ptr_of([7, 150])).stages[0].launches if not launch.whole]
    assert launch.first.tolist() == [7, 7 + LEAVES, 7 + 2 * LEAVES]
    assert launch.size.tolist() == [LEAVES, LEAVES, 150 - 2 * LEAVES]
    assert launch.owner.tolist() == [1, 1, 1]


def test_transposed() -> None:
    segments = gather([3, 0, 5, 9], rows=6)
    by_row = transpose(segments, 8)
    assert by_row.num_sets == 8
    assert by_row.permutation is not None and segments.permutation is not None
    for row in range(8):
        sets = by_row.permutation[by_row.ptr[row] : by_row.ptr[row + 1]]
        assert torch.equal(sets, index(segments)[segments.permutation == row])
