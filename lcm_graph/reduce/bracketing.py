"""Trees drawn at random: other bracketings of the same sets than the canonical one."""

from __future__ import annotations

import torch
from torch import Tensor

SHORT = 32
"""Sets of up to so many elements may get trees as deep as they are large."""


def random_rounds(
    ptr: Tensor, generator: torch.Generator | None = None
) -> list[tuple[Tensor, Tensor]]:
    """Rounds of merges of neighbours that leave one value of each set.

    Each set draws how it is folded: the chance with which two neighbours are merged in a round,
    from one pair at a time to as many as there are, and where a round's first pair tends to be,
    from anywhere to the left end. So trees run from balanced ones, ``log₂ n`` levels, to combs,
    ``n - 1`` levels (sets of more than 32 elements merge a quarter of what they can at least, which
    bounds their depth by a multiple of the logarithm).

    Args:
        ptr: int64 ``[S + 1]``, the sets laid end to end.
        generator: source of randomness, on ``ptr``'s device; the global one if ``None``.

    Returns:
        For each round the places ``[m]`` of the left and of the right operands among the elements
        laid end to end. A value's place is that of its first element; a merge keeps the left one.
    """
    device = ptr.device

    def uniform(n: int) -> Tensor:
        return torch.rand(n, generator=generator, device=device, dtype=torch.float64)

    sizes = ptr.diff()
    num_sets = sizes.numel()
    sets = torch.arange(num_sets, device=device)
    chance = uniform(num_sets)
    chance = torch.where(sizes > SHORT, 0.25 + 0.75 * chance, chance)
    lean = (4 * uniform(num_sets)).exp2()  # 1: anywhere; 16: nearly always the left end

    at = torch.arange(int(ptr[-1]), device=device)  # the place of each value
    owner = sets.repeat_interleave(sizes, output_size=at.numel())
    rounds: list[tuple[Tensor, Tensor]] = []
    while True:
        count = torch.bincount(owner, minlength=num_sets)
        if num_sets == 0 or int(count.max()) < 2:
            return rounds
        start = count.cumsum(0) - count
        wants = uniform(at.numel()) < chance[owner]
        chosen = start + (uniform(num_sets).pow(lean) * (count - 1)).long()
        wants[chosen[count > 1]] = True  # at least one
        wants[:-1] &= owner[:-1] == owner[1:]
        wants[-1] = False
        left = _alternate(wants).nonzero().flatten()
        rounds.append((at[left], at[left + 1]))
        keep = torch.ones_like(wants)
        keep[left + 1] = False
        at, owner = at[keep], owner[keep]


def _alternate(wants: Tensor) -> Tensor:
    """Of each run of neighbours that want to merge with the next, the first, third, fifth, …"""
    places = torch.arange(wants.numel(), device=wants.device)
    last_no = torch.where(wants, -1, places).cummax(0).values
    return wants & ((places - last_no) % 2 == 1)
