"""Test sets of one size, drawn when they are needed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from lcm_graph.datasets.sets.answers import best_constant, encode
from lcm_graph.datasets.sets.integer_sets import with_defaults
from lcm_graph.datasets.sets.random_sets import check_sizes
from lcm_graph.datasets.sets.set_batch import SetBatch, to_bits
from lcm_graph.datasets.sets.set_functions import SetFunction
from lcm_graph.datasets.sets.set_sampling import check_whole, draw_values


class SetStream:
    """Sets of one size that are never in memory all at once, labelled by a set function.

    They are drawn in portions of as many whole sets as ``max_elements`` allows, each by a generator
    of its own, seeded by ``(seed, number of the portion)``: every iteration yields the same sets.
    The global random state is neither read nor changed.

    Args:
        function: one of :data:`lcm_graph.datasets.SET_FUNCTIONS`, or a function of your own.
        num_sets: number of sets, at least 1.
        size: elements of each set, at least the function's ``min_size``.
        bits: bits per element, see :class:`IntegerSets`; the function's if None.
        sampling: how elements are drawn, see :func:`lcm_graph.datasets.draw_values`; the
            function's if None.
        seed: any non-negative integer.
        max_elements: elements in memory at a time, at least 1; one set is drawn if it is larger.
            Other sets are drawn if this is changed.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        function: str | SetFunction,
        num_sets: int,
        size: int,
        *,
        bits: int | None = None,
        sampling: str | None = None,
        seed: int = 0,
        max_elements: int = 1 << 20,
    ) -> None:
        self.function, self.bits, self.sampling = with_defaults(function, bits, sampling)
        check_sizes(self.function, num_sets, size=size)
        check_whole("seed", seed, 0)
        check_whole("max_elements", max_elements, 1)
        self.num_sets, self.size = num_sets, size
        self.seed, self.max_elements = seed, max_elements

    def __iter__(self) -> Iterator[SetBatch]:
        """Yield all sets once, a portion at a time."""
        return self.batches(self.num_sets)

    def batches(self, batch_size: int) -> Iterator[SetBatch]:
        """Yield all sets once, at most ``batch_size`` at a time, and at most a portion.

        Raises:
            ValueError: ``batch_size`` is below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1 (got {batch_size})")
        return self._iterate(batch_size)

    def trivial_accuracy(self) -> float:
        """Accuracy in [0, 1] of the best constant answer, see :func:`is_right`. Draws all sets."""
        labels = torch.cat([labels for _, labels in self._portions()])
        return best_constant(labels, self.function.answer)

    def _iterate(self, batch_size: int) -> Iterator[SetBatch]:
        for values, labels in self._portions():
            y = encode(labels, self.function.answer, self.bits)
            parts = zip(values.split(batch_size * self.size), y.split(batch_size), strict=True)
            for part, answers in parts:
                yield SetBatch(to_bits(part, self.bits), self._ptr(len(answers)), answers)

    def _portions(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The values ``[n]`` and labels ``[S]`` of each portion."""
        most = max(1, self.max_elements // self.size)
        for number, first in enumerate(range(0, self.num_sets, most)):
            seed = np.random.SeedSequence((self.seed, number)).generate_state(1)[0]
            generator = torch.Generator().manual_seed(int(seed))
            ptr = self._ptr(min(most, self.num_sets - first))
            values = draw_values(self.sampling, ptr.diff(), self.bits, generator)
            yield values, self.function.labels(values, ptr, self.bits)

    def _ptr(self, sets: int) -> Tensor:
        return torch.arange(sets + 1) * self.size

    def __len__(self) -> int:
        return self.num_sets

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.function.name!r}, {self.num_sets}, size={self.size}, "
            f"bits={self.bits}, sampling={self.sampling!r}, seed={self.seed}, "
            f"max_elements={self.max_elements})"
        )
