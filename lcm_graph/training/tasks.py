"""The tasks that the training loop knows: set functions, and OGB's molecules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.loader import DataLoader

from lcm_graph.datasets import Molecules, RandomSets, SetBatch, SetStream
from lcm_graph.datasets import is_right as is_right

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
        batch = batch.to(_device(model))
        return _SET_LOSSES[self.function.answer](model(batch.x, batch.ptr), batch.y)

    def evaluate(self, model: nn.Module, split: str) -> float:
        return set_accuracy(model, self.sets[_known(split, self.sets)])

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
        batch = batch.to(_device(model))
        right += int(is_right(model(batch.x, batch.ptr), batch.y, sets.function.answer).sum())
    model.train(was_training)
    return right / len(sets)


class MoleculeTask:
    """Predict a molecule data set's labels; the metric is OGB's.

    Binary classification trains on cross-entropy, regression on squared error of targets
    standardised by the training labels. Missing labels (NaN) are left out of the loss, and OGB's
    evaluator leaves them out of the metric. Every graph is evaluated, those of one node too.

    Args:
        molecules: the data.
        batch_size: graphs per training batch.
        absolute: regress with absolute instead of squared error.
    """

    def __init__(self, molecules: Molecules, *, batch_size: int = 32, absolute: bool = False):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1 (got {batch_size})")
        self.molecules, self.batch_size, self.absolute = molecules, batch_size, absolute
        self.maximize = molecules.maximize
        targets = molecules.targets("train")
        self.mean = torch.zeros(molecules.num_tasks)
        self.std = torch.ones(molecules.num_tasks)
        if molecules.is_regression:
            self.mean = targets.nanmean(0)
            self.std = (targets - self.mean).square().nanmean(0).sqrt().clamp(min=1e-6)

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.molecules.split["train"]) // self.batch_size)

    def train_batches(self, generator: torch.Generator) -> Iterable[Any]:
        return DataLoader(
            self.molecules.subset("train"), self.batch_size, shuffle=True, generator=generator
        )

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Mean loss over the labels that are present."""
        device = _device(model)
        batch = batch.to(device)
        out, y = model(batch), batch.y.to(torch.float32)
        present = y == y
        if self.molecules.is_regression:
            y = (y - self.mean.to(device)) / self.std.to(device)
            error: Callable[..., Tensor] = F.l1_loss if self.absolute else F.mse_loss
        else:
            error = F.binary_cross_entropy_with_logits
        # An absent label's loss is replaced, not selected: no sync, and 0 if all are absent.
        losses = error(out, torch.where(present, y, 0.0), reduction="none")
        return torch.where(present, losses, 0.0).sum() / present.sum().clamp(min=1)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str) -> float:
        """OGB's metric on all graphs of ``split``."""
        graphs = self.molecules.subset(_known(split, self.molecules.split))
        was_training = model.training
        model.eval()
        device = _device(model)
        truth, predicted = [], []
        for batch in DataLoader(graphs, _EVAL_BATCH_SIZE):
            truth.append(batch.y.float())
            predicted.append(model(batch.to(device)).cpu() * self.std + self.mean)
        model.train(was_training)
        return self.molecules.score(torch.cat(truth), torch.cat(predicted))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.molecules}, batch_size={self.batch_size}, "
            f"absolute={self.absolute})"
        )


def _known(split: str, splits: Any) -> str:
    if split not in splits:
        raise ValueError(f"split must be one of {', '.join(splits)} (got {split!r})")
    return split


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
