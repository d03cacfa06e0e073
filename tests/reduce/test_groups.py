"""Sets of one size beside each other."""

from __future__ import annotations

import pytest
import torch

from lcm_graph.reduce import FoldPlan
from lcm_graph.reduce.groups import groups_of


@pytest.mark.parametrize(
    "index", [[], [0], [2, 0, 2, 2, 5, 0, 5, 1], [3] * 17 + [0] * 16 + [1], list(range(9))]
)
def test_every_element_is_in_its_sets_place(index: list[int]) -> None:
    sets = torch.tensor(index, dtype=torch.long)
    groups = groups_of(FoldPlan.from_index(sets, dim_size=7 + max(index, default=0)))
    assert sorted(groups.rows.tolist()) == list(range(len(index)))
    assert sorted(groups.sets.tolist()) == sorted(set(index))  # empty sets are left out
    assert [size for _, size in groups.shapes] == sorted({index.count(s) for s in index})
    number = iter(groups.sets.tolist())
    elements = torch.arange(len(index)).view(-1, 1)
    for part in groups.split(elements[groups.rows]):
        for members in part:
            mine = next(number)
            assert members.flatten().tolist() == [i for i, s in enumerate(index) if s == mine]
    assert next(number, None) is None


def test_what_each_set_has() -> None:
    sets = torch.tensor([0, 0, 1, 2, 2])
    groups = groups_of(FoldPlan.from_index(sets))
    one, two = groups.split_sets(groups.sets.view(-1, 1, 1))
    assert one.flatten().tolist() == [1] and two.flatten().tolist() == [0, 2]
