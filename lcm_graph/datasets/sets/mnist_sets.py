"""Sets of pictured digits, labelled by a function of the digits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from lcm_graph.datasets.sets.mnist_raw import load_mnist
from lcm_graph.datasets.sets.random_sets import RandomSets
from lcm_graph.datasets.sets.set_functions import SetFunction, set_function

_DIGIT_BITS = 4


class MNISTSets(RandomSets):
    """Sets of MNIST's pictures, drawn with replacement, labelled by a function of their digits.

    Sizes are drawn from U{min_size, ..., max_size}. Everything follows from ``seed``; the global
    random state is neither read nor changed. The pictures are kept once; a batch's ``x`` is
    float32 ``[n, 784]`` in [0, 1], row after row of 28 pixels.

    Args:
        root: folder that holds MNIST's four files, ``train-images-idx3-ubyte`` and its like, each
            as it is or with ``.gz``.
        function: ``"sum"`` (real: the sum of the digits over 10), ``"second_minimum"`` or
            ``"modular_sum"`` (both a class of 10; the sum modulo 10).
        num_sets: number of sets, at least 1.
        min_size: smallest set, at least 1, or 2 for ``"second_minimum"``.
        max_size: largest set; equal to ``min_size`` for a fixed size.
        split: ``"train"`` or ``"test"``: whose pictures to draw from.
        seed: seed of this data set's own generator.

    Attributes:
        images: uint8 ``[N, 784]``, all pictures of the split.
        index: int64 ``[n]``, which picture each element is, set after set.
        values: int64 ``[n]``, the digit of each element.
        ptr, labels, y: see :class:`IntegerSets`.

    Raises:
        ValueError: an argument is out of range, or a file is damaged.
        FileNotFoundError: a file is missing from ``root``.

    Source: sums of pictured digits are the task of Zaheer et al., "Deep Sets" (2017), section
    4.1.2.
    """

    def __init__(
        self,
        root: str | Path,
        function: str,
        num_sets: int,
        min_size: int,
        max_size: int,
        *,
        split: str = "train",
        seed: int = 0,
    ) -> None:
        if function not in _FUNCTIONS:
            raise ValueError(
                f"function must be one of {', '.join(MNIST_FUNCTIONS)} (got {function!r})"
            )
        self.split = split
        images, digits = load_mnist(root, split)
        self.images = torch.tensor(images)
        self._digits = torch.tensor(digits, dtype=torch.int64)
        super().__init__(
            _FUNCTIONS[function], num_sets, min_size, max_size, bits=_DIGIT_BITS, seed=seed
        )

    def _draw(self, sizes: Tensor, generator: torch.Generator) -> Tensor:
        n = int(sizes.sum())
        self.index = torch.randint(0, len(self.images), (n,), generator=generator)
        return self._digits[self.index]

    def _features(self, position: Tensor) -> Tensor:
        return self.images[self.index[position]].to(torch.float32) / 255

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.function.name!r}, {self.num_sets}, "
            f"min_size={self.min_size}, max_size={self.max_size}, split={self.split!r}, "
            f"seed={self.seed})"
        )


def _tenths(values: Tensor, ptr: Tensor, bits: int) -> Tensor:
    return set_function("sum").label(values, ptr, 0) / 10


_FUNCTIONS = {
    function.name: function
    for function in (
        SetFunction("sum", _tenths, "real", bits=_DIGIT_BITS),
        replace(set_function("second_minimum"), answer="class", classes=10, bits=_DIGIT_BITS),
        set_function("modular_sum"),
    )
}
MNIST_FUNCTIONS = tuple(_FUNCTIONS)
