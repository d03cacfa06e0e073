"""The 2nd-minimum task: a set function that sums and maxima cannot express exactly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

_MAX_BITS = 31  # (set, value) is sorted as one int64 key


class SetBatch(NamedTuple):
    """A ragged batch of sets. Shapes: n elements in S sets.

    Attributes:
        x: float32 ``[n, bits]``, the bits of each element, least significant first.
        ptr: int64 ``[S + 1]``; set ``s`` holds rows ``ptr[s]:ptr[s + 1]`` of ``x``.
        y: float32 ``[S, bits]``, the bits of each set's second smallest element.
    """

    x: Tensor
    ptr: Tensor
    y: Tensor

    def to(self, device: torch.device | str) -> SetBatch:
        """The same batch on ``device``."""
        return SetBatch(self.x.to(device), self.ptr.to(device), self.y.to(device))


class SecondMinimum:
    """Sets of random integers, labelled with their second smallest element.

    Elements are drawn from U{0, ..., 2^bits - 1} and sizes from U{min_size, ..., max_size}. Equal
    elements count separately: the second minimum of {3, 3, 5} is 3. Everything follows from
    ``seed``; the global random state is neither read nor changed.

    Args:
        num_sets: number of sets, at least 1.
        min_size: smallest set, at least 2 (a singleton has no second minimum).
        max_size: largest set; equal to ``min_size`` for a fixed size.
        bits: bits per element, 1 to 31.
        seed: seed of this data set's own generator.

    Attributes:
        values: int64 ``[n]``, all elements, set after set.
        ptr: int64 ``[num_sets + 1]``; set ``s`` is ``values[ptr[s]:ptr[s + 1]]``.
        labels: int64 ``[num_sets]``, the second minima.
        y: float32 ``[num_sets, bits]``, the bits of ``labels``, least significant first.

    Raises:
        ValueError: an argument is out of range.

    Source: Ong and Veličković, "Learnable Commutative Monoids for Graph Neural Networks" (2022),
    section 3.1. The paper trains on sizes U{1, ..., 16}; a second minimum needs two elements, so
    the default here is 2 to 16.
    """

    def __init__(
        self,
        num_sets: int,
        min_size: int = 2,
        max_size: int = 16,
        *,
        bits: int = 8,
        seed: int = 0,
    ) -> None:
        if num_sets < 1:
            raise ValueError(f"num_sets must be at least 1 (got {num_sets})")
        if min_size < 2:
            raise ValueError(
                f"min_size must be at least 2: a set of one element has no second minimum "
                f"(got {min_size})"
            )
        if max_size < min_size:
            raise ValueError(
                f"max_size must be at least min_size (got max_size={max_size}, min_size={min_size})"
            )
        if not 1 <= bits <= _MAX_BITS:
            raise ValueError(f"bits must be between 1 and {_MAX_BITS} (got {bits})")
        self.num_sets, self.min_size, self.max_size = num_sets, min_size, max_size
        self.bits, self.seed = bits, seed

        generator = torch.Generator().manual_seed(seed)
        sizes = torch.randint(min_size, max_size + 1, (num_sets,), generator=generator)
        self.ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        self.values = torch.randint(0, 2**bits, (int(self.ptr[-1]),), generator=generator)
        self.labels = self._second_minimum(sizes)
        self.y = self._to_bits(self.labels)

    def _second_minimum(self, sizes: Tensor) -> Tensor:
        """Sort by (set, value) as one key; the second entry of each set is the answer."""
        owner = torch.repeat_interleave(torch.arange(self.num_sets), sizes)
        keys = (owner * 2**self.bits + self.values).sort().values
        return keys[self.ptr[:-1] + 1] % 2**self.bits

    def _to_bits(self, values: Tensor) -> Tensor:
        return ((values[:, None] >> torch.arange(self.bits)) & 1).to(torch.float32)

    def trivial_accuracy(self) -> float:
        """Accuracy in [0, 1] of always guessing the most common label."""
        counts = self.labels.unique(return_counts=True)[1]
        return int(counts.max()) / self.num_sets

    def batches(
        self,
        batch_size: int,
        *,
        generator: torch.Generator | None = None,
        shuffle: bool = False,
    ) -> Iterator[SetBatch]:
        """Yield all sets once, ``batch_size`` at a time (the last batch may be smaller).

        Args:
            batch_size: sets per batch, at least 1.
            generator: source of randomness for ``shuffle``; the global one if None.
            shuffle: visit the sets in random order, and the elements of each set too (the paper's
                augmentation for aggregators that see an order, section 2.5).

        Raises:
            ValueError: ``batch_size`` is below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1 (got {batch_size})")
        return self._iterate(batch_size, generator, shuffle)

    def _iterate(
        self, batch_size: int, generator: torch.Generator | None, shuffle: bool
    ) -> Iterator[SetBatch]:
        order = torch.arange(self.num_sets)
        if shuffle:
            order = torch.randperm(self.num_sets, generator=generator)
        for chosen in order.split(batch_size):
            start = self.ptr[chosen]
            sizes = self.ptr[chosen + 1] - start
            ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
            total = int(ptr[-1])
            owner = torch.repeat_interleave(
                torch.arange(len(chosen)), sizes, output_size=total
            )  # [n]
            position = torch.arange(total) - (ptr[:-1] - start)[owner]
            if shuffle:  # shuffle everything, then bring each set together again
                mixed = torch.randperm(total, generator=generator)
                position = position[mixed[owner[mixed].argsort(stable=True)]]
            yield SetBatch(self._to_bits(self.values[position]), ptr, self.y[chosen])

    def __len__(self) -> int:
        return self.num_sets

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.num_sets}, min_size={self.min_size}, "
            f"max_size={self.max_size}, bits={self.bits}, seed={self.seed})"
        )
