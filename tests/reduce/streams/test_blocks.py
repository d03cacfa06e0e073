"""Stretches of places cut into subtrees."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from lcm_graph.reduce.streams.blocks import whole_blocks


def largest_at(begin: int, stop: int) -> int:
    """The level of the largest subtree that begins at a place and ends by ``stop``."""
    level = 0
    while begin % (2 << level) == 0 and begin + (2 << level) <= stop:
        level += 1
    return level


stretches = st.lists(st.tuples(st.integers(0, 70), st.integers(0, 70)), max_size=4)


@given(stretches)
def test_stretches_are_cut_from_left_to_right(pairs: list[tuple[int, int]]) -> None:
    start = torch.tensor([a for a, _ in pairs], dtype=torch.int64)
    stop = start + torch.tensor([b for _, b in pairs], dtype=torch.int64)
    expected = []
    for owner, (at, end) in enumerate(zip(start.tolist(), stop.tolist(), strict=True)):
        while at < end:
            level = largest_at(at, end)
            expected.append((owner, at, level))
            at += 1 << level
    found = torch.stack(whole_blocks(start, stop), dim=1).tolist()
    assert [tuple(block) for block in found] == expected
