"""Learn a set function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lcm_graph.datasets import RandomSets, SetBatch, SetStream, is_right
from lcm_graph.training.tasks.parts import device_of, known_split

Sets: TypeAlias = RandomSets | SetStream
_EVAL_BATCH_SIZE = 512


class SetTask:
    """Learn a set function; the metric is the fraction of sets answered right.

    The loss is binary cross-entropy for bits, cross-entropy for a class, and the smooth L1 (Huber)
    loss for a real number, quadratic up to 0.1; see :func:`is_right` for what counts as right.

    Args:
        train: sets to learn from, shuffled anew in each epoch.
        valid: sets to choose the best epoch by.
        test: sets to report on.
        batch_size: sets per training batch.

    Raises:
        ValueError: ``batch_size`` is below 1, or the data sets ask for different functions.
    """

    maximize = True

    def __init__(
        self,
        train: RandomSets,
        valid: Sets,
        test: Sets | None = None,
        *,
        batch_size: int = 32,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1 (got {batch_size})")
        self.train = train
        self.sets: dict[str, Sets] = {"train": train, "valid": valid}
        if test is not None:
            self.sets["test"] = test
        self.batch_size = batch_size
        self.function = train.function
        for split, sets in self.sets.items():
            if (sets.function.name, sets.bits) != (train.function.name, train.bits):
                raise ValueError(
                    f"{split} must have train's function and bits, {train.function.name!r} and "
                    f"{train.bits} (got {sets.function.name!r} and {sets.bits})"
                )

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.train) // self.batch_size)

    def train_batches(self, generator: torch.Generator) -> Iterator[SetBatch]:
        return self.train.batches(self.batch_size, generator=generator, shuffle=True)

    def loss(self, model: nn.Module, batch: SetBatch) -> Tensor:
        """Mean loss over sets, and over bits."""
        batch = batch.to(device_of(model))
        return _SET_LOSSES[self.function.answer](model(batch.x, batch.ptr), batch.y)

    def evaluate(self, model: nn.Module, split: str) -> float:
        return set_accuracy(model, self.sets[known_split(split, self.sets)])

    def __repr__(self) -> str:
        sets = ", ".join(f"{name}={value}" for name, value in self.sets.items())
        return f"{type(self).__name__}({sets}, batch_size={self.batch_size})"


_SET_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bits": F.binary_cross_entropy_with_logits,
    "class": F.cross_entropy,
    "real": partial(F.smooth_l1_loss, beta=0.1),
}


@torch.no_grad()
def set_accuracy(model: nn.Module, sets: Sets) -> float:
    """Fraction of ``sets`` in [0, 1] that ``model`` (in eval mode) answers right."""
    was_training = model.training
    model.eval()
    right = 0
    for batch in sets.batches(_EVAL_BATCH_SIZE):
        batch = batch.to(device_of(model))
        right += int(is_right(model(batch.x, batch.ptr), batch.y, sets.function.answer).sum())
    model.train(was_training)
    return right / len(sets)
