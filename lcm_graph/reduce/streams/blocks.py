"""The whole subtrees that a stretch of a set's elements holds."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Blocks(NamedTuple):
    """Stretches of ``2 ** level`` elements that begin at a multiple of that.

    Each is a subtree of the canonical tree, whatever comes before and after it.
    """

    owner: Tensor  # int64 [b], which of the stretches given
    begin: Tensor  # int64 [b], the place of the first element in its set
    level: Tensor  # int64 [b]


def whole_blocks(start: Tensor, stop: Tensor) -> Blocks:
    """The fewest blocks that make up places ``start`` to ``stop - 1`` of sets, in order.

    Args:
        start: int64 ``[s]``, from 0 up.
        stop: int64 ``[s]``, from ``start`` up.
    """
    at = start.clone()
    top = int(stop.max()).bit_length() if stop.numel() else 0
    found = []
    # Ever larger blocks up to the first that does not fit, then ever smaller ones.
    for digit in range(top):
        fits = ((at >> digit) & 1 == 1) & (at + (1 << digit) <= stop)
        found.append(_emit(at, fits, digit))
    for digit in reversed(range(top)):
        found.append(_emit(at, at + (1 << digit) <= stop, digit))
    if not found:
        none = start.new_empty(0)
        return Blocks(none, none, none)
    owners, begins, levels = zip(*found, strict=True)
    owner, begin, level = torch.cat(owners), torch.cat(begins), torch.cat(levels)
    order = begin.argsort(stable=True)
    order = order[owner[order].argsort(stable=True)]
    return Blocks(owner[order], begin[order], level[order])


def _emit(at: Tensor, fits: Tensor, level: int) -> tuple[Tensor, Tensor, Tensor]:
    """The blocks of one level where one ``fits``; moves ``at`` behind them."""
    owner = fits.nonzero().flatten()
    begin = at[owner]
    at[owner] += 1 << level
    return owner, begin, torch.full_like(owner, level)
