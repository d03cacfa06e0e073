"""The ragged batches that aggregators are measured on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

CHANNELS = 64


@dataclass(frozen=True)
class Case:
    """A batch of sets, in the order that PyG's aggregators need."""

    index: Tensor  # int64 [n], sorted
    num_sets: int
    description: str

    @property
    def num_elements(self) -> int:
        return self.index.numel()

    @property
    def largest(self) -> int:
        return int(torch.bincount(self.index).max())

    @property
    def input_bytes(self) -> int:
        return self.num_elements * CHANNELS * 4

    @property
    def padded_bytes(self) -> int:
        """What one tensor of all sets, padded to the largest, takes."""
        return self.num_sets * self.largest * CHANNELS * 4

    def elements(self) -> Tensor:
        """Standard normal elements ``[n, CHANNELS]``, the same at every call."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(self.num_elements, CHANNELS, generator=generator)


def equal_sets(num_sets: int, size: int) -> Case:
    """Sets of one size: nothing to pad, PyG's best case."""
    index = torch.arange(num_sets).repeat_interleave(size)
    return Case(index, num_sets, f"{num_sets:,} sets of {size}")


def debian_in_neighbours(root: Path) -> Case:
    """For every node of ``debian_graph/deps.npz``, the edges that point to it."""
    with np.load(root / "debian_graph" / "deps.npz", allow_pickle=False) as arrays:
        index = torch.from_numpy(np.sort(arrays["edge_index"][1].astype(np.int64)))
        num_nodes = len(arrays["node_kind"])
    largest = int(torch.bincount(index).max())
    description = f"Debian: {num_nodes:,} sets of up to {largest:,}"
    return Case(index, num_nodes, description)


def sample_by_size(case: Case, num_sets: int, cells: int) -> Case:
    """A deterministic sample of a case's sets, as heavy-tailed as they are, that PyG can pad.

    Of the sets of 1 to ``cells / num_sets`` elements, ordered by size from the largest down (then
    by number), ``num_sets`` are taken at equal distances beginning with the largest. Padded to the
    largest they fill at most ``cells`` cells.
    """
    sizes = torch.bincount(case.index, minlength=case.num_sets)
    eligible = ((sizes >= 1) & (sizes <= cells // num_sets)).nonzero().flatten()
    by_size = eligible[sizes[eligible].argsort(descending=True, stable=True)]
    chosen = by_size[torch.arange(num_sets) * len(by_size) // num_sets]
    number = torch.full((case.num_sets,), -1)
    number[chosen.sort().values] = torch.arange(num_sets)
    index = number[case.index]
    index = index[index >= 0]
    description = f"Debian sample: {num_sets:,} sets of up to {int(torch.bincount(index).max()):,}"
    return Case(index, num_sets, description)
