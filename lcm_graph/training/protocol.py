"""What the training loop asks of a task, and what it gives back."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Task(Protocol):
    """What a model is trained for. ``repr(task)`` should name the data and the batch size."""

    @property
    def maximize(self) -> bool:
        """Whether a higher :meth:`evaluate` is better."""
        ...

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches that :meth:`train_batches` yields."""
        ...

    def train_batches(self, generator: torch.Generator) -> Iterable[Any]:
        """One epoch of training batches; all their randomness comes from ``generator``."""
        ...

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Scalar loss of ``batch``, with gradients."""
        ...

    def evaluate(self, model: nn.Module, split: str) -> float:
        """Metric on ``"valid"`` or ``"test"``; leaves no gradients."""
        ...


@dataclass(frozen=True)
class Epoch:
    """One line of the history: epochs count from 1, ``loss`` is the task's mean over batches."""

    epoch: int
    loss: float
    valid: float
    seconds: float


@dataclass(frozen=True)
class FitResult:
    """What :func:`fit` reports.

    Attributes:
        history: one entry per epoch.
        best_epoch: epoch (from 1) whose weights were kept: that with the best validation metric,
            the last on ties, since what is right on every validation set may still become sparser
            or more precise; or the last of all, if that was asked for.
        best_valid: its validation metric.
    """

    history: list[Epoch]
    best_epoch: int
    best_valid: float

    @property
    def seconds_per_epoch(self) -> float:
        """Median training time of an epoch in seconds, evaluation excluded."""
        return statistics.median(epoch.seconds for epoch in self.history)
