"""Random sets that are kept in memory, labelled by a function of their values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from lcm_graph.datasets.sets.answers import best_constant, encode
from lcm_graph.datasets.sets.set_batch import SetBatch
from lcm_graph.datasets.sets.set_functions import SetFunction
from lcm_graph.datasets.sets.set_sampling import MAX_SEED, check_whole


class RandomSets(ABC):
    """What sets of integers and sets of pictures share: sizes, labels and batches.

    A subclass draws elements and says what a model sees of them. Sizes are drawn from
    U{min_size, ..., max_size}. Everything follows from ``seed``; the global random state is neither
    read nor changed.

    Args:
        function: labels the sets.
        num_sets: number of sets, at least 1.
        min_size: smallest set, at least the function's ``min_size``, which None stands for.
        max_size: largest set; equal to ``min_size`` for a fixed size.
        bits: every value is below 2^bits.
        seed: seed of this data set's own generator.

    Attributes:
        values: int64 ``[n]``, the value of each element, set after set.
        ptr: int64 ``[num_sets + 1]``; set ``s`` is ``values[ptr[s]:ptr[s + 1]]``.
        labels: ``[num_sets]``, the function's answers: int64, or float64 if real.
        y: the labels as a model is trained on them, see :func:`lcm_graph.datasets.encode`.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        function: SetFunction,
        num_sets: int,
        min_size: int | None,
        max_size: int,
        *,
        bits: int,
        seed: int,
    ) -> None:
        min_size = function.min_size if min_size is None else min_size
        check_sizes(function, num_sets, min_size=min_size)
        check_whole("max_size", max_size, 1)
        check_whole("seed", seed, 0, MAX_SEED)
        if max_size < min_size:
            raise ValueError(
                f"max_size must be at least min_size (got max_size={max_size}, min_size={min_size})"
            )
        self.function, self.num_sets = function, num_sets
        self.min_size, self.max_size, self.bits, self.seed = min_size, max_size, bits, seed

        generator = torch.Generator().manual_seed(seed)
        sizes = torch.randint(min_size, max_size + 1, (num_sets,), generator=generator)
        self.ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        self.values = self._draw(sizes, generator)
        self.labels = function.labels(self.values, self.ptr, bits)
        self.y = encode(self.labels, function.answer, bits)

    @abstractmethod
    def _draw(self, sizes: Tensor, generator: torch.Generator) -> Tensor:
        """Draw all elements and return their values, int64 ``[n]``."""

    @abstractmethod
    def _features(self, position: Tensor) -> Tensor:
        """What a model sees of the elements at ``position [m]``: float32 ``[m, channels]``."""

    def trivial_accuracy(self) -> float:
        """Accuracy in [0, 1] of the best constant answer, see :func:`is_right`."""
        return best_constant(self.labels, self.function.answer)

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
            shuffle: visit the sets in random order, and the elements of each set too (an
                augmentation for aggregators that see an order: Ong and Veličković, "Learnable
                Commutative Monoids for Graph Neural Networks" (2022), section 2.5).

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
            yield SetBatch(self._features(position), ptr, self.y[chosen])

    def __len__(self) -> int:
        return self.num_sets


def check_sizes(function: SetFunction, num_sets: int, **size: int) -> None:
    """ValueError if there are no sets, or if the named ``size`` is too small for ``function``."""
    check_whole("num_sets", num_sets, 1)
    for name, value in size.items():
        if type(value) is not int:
            raise ValueError(f"{name} must be an integer (got {value!r})")
        if value < function.min_size:
            raise ValueError(
                f"{name} must be at least {function.min_size}: smaller sets have no "
                f"{function.name} (got {value})"
            )
