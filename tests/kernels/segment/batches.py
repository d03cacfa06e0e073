"""Ragged batches with the sizes at which trees, bins and stages change, in shuffled order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lcm_graph.kernels.segment.tasks import Segments, plan
from tests.references import ptr_of

SIZES = (0, 16, 1, 33, 2, 3, 0, 17, 5, 8, 9, 1)
HUB = 700


def batch(sizes: Sequence[int], seed: int = 0, spare: int = 0) -> Segments:
    """Sets of rows in random order, out of as many rows as they have elements and ``spare``."""
    total = sum(sizes)
    generator = torch.Generator().manual_seed(seed)
    return plan(ptr_of(sizes), torch.randperm(total + spare, generator=generator)[:total])


def gather(sizes: Sequence[int], rows: int, seed: int = 0) -> Segments:
    """Sets of rows that repeat, also within a set."""
    generator = torch.Generator().manual_seed(seed)
    return plan(ptr_of(sizes), torch.randint(rows, (sum(sizes),), generator=generator))


def index(segments: Segments) -> Tensor:
    """The set of each place."""
    return torch.arange(segments.num_sets).repeat_interleave(segments.ptr.diff())


def elements(x: Tensor, segments: Segments) -> Tensor:
    """The element at each place."""
    return x if segments.permutation is None else x[segments.permutation]
