"""Sets of random integers, labelled by a set function."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_graph.datasets.sets.random_sets import RandomSets
from lcm_graph.datasets.sets.set_batch import to_bits
from lcm_graph.datasets.sets.set_functions import SetFunction, set_function
from lcm_graph.datasets.sets.set_sampling import check_sampling, draw_values


class IntegerSets(RandomSets):
    """Sets of random integers, labelled by a set function.

    Sizes are drawn from U{min_size, ..., max_size}. Everything follows from ``seed``; the global
    random state is neither read nor changed. A batch's ``x`` is float32 ``[n, bits]``, the bits of
    each element, least significant first.

    Args:
        function: one of :data:`lcm_graph.datasets.SET_FUNCTIONS`, or a function of your own.
        num_sets: number of sets, at least 1.
        min_size: smallest set, at least the function's ``min_size``, which None stands for.
        max_size: largest set; equal to ``min_size`` for a fixed size.
        bits: bits per element, 1 to 31, at most 12 for ``"support"`` and ``"skewed"``; the
            function's if None.
        sampling: how elements are drawn, see :func:`lcm_graph.datasets.draw_values`; the
            function's if None.
        seed: seed of this data set's own generator.

    Attributes:
        values: int64 ``[n]``, all elements, set after set.
        ptr: int64 ``[num_sets + 1]``; set ``s`` is ``values[ptr[s]:ptr[s + 1]]``.
        labels: ``[num_sets]``, the function's answers: int64, or float64 if real.
        y: the labels as a model is trained on them: float32 ``[num_sets, bits]``, int64
            ``[num_sets]`` for a class, float32 ``[num_sets, 1]`` for a real number.

    Raises:
        ValueError: an argument is out of range.

    Source: for ``"second_minimum"``, Ong and Veličković, "Learnable Commutative Monoids for Graph
    Neural Networks" (2022), section 3.1. The paper trains on sizes U{1, ..., 16}; a second minimum
    needs two elements, so the default here is 2 to 16.
    """

    def __init__(
        self,
        function: str | SetFunction,
        num_sets: int,
        min_size: int | None = None,
        max_size: int = 16,
        *,
        bits: int | None = None,
        sampling: str | None = None,
        seed: int = 0,
    ) -> None:
        function, bits, self.sampling = with_defaults(function, bits, sampling)
        super().__init__(function, num_sets, min_size, max_size, bits=bits, seed=seed)

    def _draw(self, sizes: Tensor, generator: torch.Generator) -> Tensor:
        return draw_values(self.sampling, sizes, self.bits, generator)

    def _features(self, position: Tensor) -> Tensor:
        return to_bits(self.values[position], self.bits)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.function.name!r}, {self.num_sets}, "
            f"min_size={self.min_size}, max_size={self.max_size}, bits={self.bits}, "
            f"sampling={self.sampling!r}, seed={self.seed})"
        )


def with_defaults(
    function: str | SetFunction, bits: int | None, sampling: str | None
) -> tuple[SetFunction, int, str]:
    """A set function by name or as it is, with its own bits and sampling in place of None.

    Raises:
        ValueError: unknown name or sampling, or bits out of range.
    """
    if not isinstance(function, SetFunction):
        function = set_function(function)
    bits = function.bits if bits is None else bits
    sampling = function.sampling if sampling is None else sampling
    check_sampling(sampling, bits)
    return function, bits, sampling
