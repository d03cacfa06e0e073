"""Predict the labels of OGB's molecules."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.loader import DataLoader

from lcm_graph.datasets import Molecules
from lcm_graph.training.tasks.parts import device_of, digest, known_split

_EVAL_BATCH_SIZE = 512


class MoleculeTask:
    """Predict a molecule data set's labels; the metric is OGB's.

    Binary classification trains on cross-entropy, regression on squared error of targets
    standardised by the training labels. Missing labels (NaN) are left out of the loss, and OGB's
    evaluator leaves them out of the metric. Every graph is evaluated, those of one node too.

    Args:
        molecules: the data.
        batch_size: graphs per training batch.
    """

    def __init__(self, molecules: Molecules, *, batch_size: int = 32) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1 (got {batch_size})")
        self.molecules, self.batch_size = molecules, batch_size
        self.maximize = molecules.maximize
        targets = molecules.targets("train")
        self.mean = torch.zeros(molecules.num_tasks)
        self.std = torch.ones(molecules.num_tasks)
        if molecules.is_regression:
            self.mean = targets.nanmean(0)
            self.std = (targets - self.mean).square().nanmean(0).sqrt().clamp(min=1e-6)
            known = ~targets.isnan().all(0)  # a task without a label in training stays as it is
            self.mean, self.std = (
                torch.where(known, found, blank)
                for found, blank in ((self.mean, 0.0), (self.std, 1.0))
            )

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.molecules.split["train"]) // self.batch_size)

    def train_batches(self, generator: torch.Generator) -> Iterable[Any]:
        return DataLoader(
            self.molecules.subset("train"), self.batch_size, shuffle=True, generator=generator
        )

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Mean loss over the labels that are present."""
        device = device_of(model)
        batch = batch.to(device)
        out, y = model(batch), batch.y.to(torch.float32)
        present = y == y
        if self.molecules.is_regression:
            y = (y - self.mean.to(device)) / self.std.to(device)
            error: Callable[..., Tensor] = F.mse_loss
        else:
            error = F.binary_cross_entropy_with_logits
        # An absent label's loss is replaced, not selected: no sync, and 0 if all are absent.
        losses = error(out, torch.where(present, y, 0.0), reduction="none")
        return torch.where(present, losses, 0.0).sum() / present.sum().clamp(min=1)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str) -> float:
        """OGB's metric on all graphs of ``split``."""
        graphs = self.molecules.subset(known_split(split, self.molecules.split))
        was_training = model.training
        model.eval()
        device = device_of(model)
        truth, predicted = [], []
        for batch in DataLoader(graphs, _EVAL_BATCH_SIZE):
            truth.append(batch.y.float())
            predicted.append(model(batch.to(device)).cpu() * self.std + self.mean)
        model.train(was_training)
        try:
            return self.molecules.score(torch.cat(truth), torch.cat(predicted))
        except RuntimeError as error:  # OGB's, of labels of one class alone
            raise ValueError(f"split {split!r} of {self.molecules}: {error}") from error

    def __repr__(self) -> str:
        data = digest([self.molecules.dataset._data, *self.molecules.split.values()])
        return f"{type(self).__name__}({self.molecules}, batch_size={self.batch_size}, data={data})"
