"""Which pairs a launch combines: levels with much to do one by one, small ones several at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lcm_graph.kernels.tree import Tree

# To be tuned on a GPU. Joining saves launches, but a program then does alone, one channel block
# after the other, what a launch a level spreads over the device.
JOIN_PAIRS = 4096  # join levels of at most so many pairs
JOIN_CHANNELS = 128  # if elements have at most so many channels
GROUP_PAIRS = 64  # pairs of the lowest level that a program of a joined launch begins with; 2 ** k


class Step(NamedTuple):
    """The pairs of one launch: those of one level, or of several."""

    start: int
    end: int
    bounds: Tensor | None = None  # int64 [levels, groups + 1]: see kernels.joined_fwd
    at_bottom: bool = False  # level 0, which reads x


def schedule(tree: Tree, channels: int) -> list[Step]:
    """The steps of a fold, from the bottom up.

    It depends on the tree and on the number of channels alone and can be kept as long as they stay
    the same; working it out does not wait for the device.
    """
    ptr = tree.level_ptr
    top = len(ptr) - 1
    is_canonical = tree.sizes.numel() > 0  # only then are the subtrees known
    steps = []
    level = 0
    while level < top:
        pairs = ptr[level + 1] - ptr[level]
        stop = level + 1
        if is_canonical and level > 0 and pairs <= JOIN_PAIRS and channels <= JOIN_CHANNELS:
            # A subtree that begins with GROUP_PAIRS pairs has log2(GROUP_PAIRS) + 1 levels.
            stop = min(level + GROUP_PAIRS.bit_length(), top) if pairs > GROUP_PAIRS else top
        bounds = group_bounds(tree, level, stop) if stop > level + 1 else None
        steps.append(Step(ptr[level], ptr[stop], bounds, level == 0))
        level = stop
    return steps


def group_bounds(tree: Tree, level: int, stop: int) -> Tensor:
    """Groups of about ``GROUP_PAIRS`` pairs of ``level`` and all above them below level ``stop``.

    Pair i of a set at level l combines values 2 i and 2 i + 1 of that level, so the subtrees of K
    levels are those of pairs ``i >> (K - 1)``. A group is a run of subtrees, its pairs are
    therefore a run at every level.

    Returns:
        int64 ``[stop - level, groups + 1]``: where each group begins at each level.
    """
    device = tree.sizes.device
    ptr = torch.tensor(tree.level_ptr[level : stop + 1], device=device)
    count = stop - level
    groups = -(-(tree.level_ptr[level + 1] - tree.level_ptr[level]) // GROUP_PAIRS)
    if groups == 1:
        return torch.stack([ptr[:-1], ptr[1:]], 1)
    levels = torch.arange(count, device=device).unsqueeze(1)
    lengths = -(-tree.sizes >> (level + levels))  # values of each set: ⌈size / 2 ** level⌉
    pairs = lengths >> 1  # [count, sets]
    ends = pairs.cumsum(1)
    # Group g begins with the first subtree that begins with pair GROUP_PAIRS * g or later.
    cut = GROUP_PAIRS * torch.arange(1, groups, device=device)
    sets = torch.searchsorted(ends[0], cut, right=True)
    place = cut - (ends[0] - pairs[0])[sets]
    subtree = -(-place >> (count - 1))
    place_at_level = torch.minimum(subtree << (count - 1 - levels), pairs[:, sets])
    begin = (ends - pairs)[:, sets] + place_at_level
    inner = ptr[:-1].unsqueeze(1) + begin
    return torch.cat([ptr[:-1, None], inner, ptr[1:, None]], 1)


def runs_down(steps: Sequence[Step], capacity: int) -> Iterator[list[Step]]:
    """The steps from the top down, in runs of at most ``capacity`` pairs.

    Levels on their own are cut where a run is full; joined ones, which must fit, are not.
    """
    run: list[Step] = []
    room = capacity
    for step in reversed(steps):
        end = step.end
        while end > step.start:
            whole = step.bounds is not None
            if run and (room == 0 or (whole and end - step.start > room)):
                yield run
                run, room = [], capacity
            start = step.start if whole else max(step.start, end - room)
            run.append(step._replace(start=start, end=end))
            room -= end - start
            end = start
    if run:
        yield run
