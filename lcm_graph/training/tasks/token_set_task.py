"""Classify sets of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lcm_graph.datasets import TokenSets
from lcm_graph.training.tasks.parts import checked_split, device_of, digest, known_split

_EVAL_BATCH_SIZE = 1024


class TokenBatch(NamedTuple):
    """Some of the sets: tokens ``[n]`` in sets ``ptr [S + 1]``, with classes ``y [S]``."""

    tokens: Tensor
    ptr: Tensor
    y: Tensor


class TokenSetTask:
    """Learn the class of each set; the metric is accuracy.

    Args:
        sets: tokens and classes.
        split: ``"train"``, ``"valid"`` and maybe ``"test"`` -> int64 indices of sets.
        batch_size: sets per batch, however large they are.

    Raises:
        ValueError: ``batch_size`` is below 1, or a split is missing, empty or not disjoint from
            another.
    """

    maximize = True

    def __init__(
        self, sets: TokenSets, split: Mapping[str, Tensor], *, batch_size: int = 64
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1 (got {batch_size})")
        self.sets, self.batch_size = sets, batch_size
        self.split = checked_split(split, len(sets.y), "sets")

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.split["train"]) // self.batch_size)

    def train_batches(self, generator: torch.Generator) -> Iterator[TokenBatch]:
        chosen = self.split["train"]
        order = torch.randperm(len(chosen), generator=generator)
        return (self.batch(part) for part in chosen[order].split(self.batch_size))

    def batch(self, chosen: Tensor) -> TokenBatch:
        """The sets of these indices, end to end."""
        starts, sizes = self.sets.ptr[chosen], self.sets.ptr.diff()[chosen]
        ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        places = torch.arange(int(ptr[-1])) + (starts - ptr[:-1]).repeat_interleave(sizes)
        return TokenBatch(self.sets.tokens[places], ptr, self.sets.y[chosen])

    def loss(self, model: nn.Module, batch: TokenBatch) -> Tensor:
        """Mean cross-entropy over sets."""
        tokens, ptr, y = (tensor.to(device_of(model)) for tensor in batch)
        return F.cross_entropy(model(tokens, ptr), y)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str) -> float:
        """Fraction of the sets of ``split`` whose class is answered right."""
        chosen = self.split[known_split(split, self.split)]
        was_training = model.training
        model.eval()
        right = 0
        for part in chosen.split(_EVAL_BATCH_SIZE):
            tokens, ptr, y = (tensor.to(device_of(model)) for tensor in self.batch(part))
            right += int((model(tokens, ptr).argmax(1) == y).sum())
        model.train(was_training)
        return right / len(chosen)

    def __repr__(self) -> str:
        sizes = {name: len(chosen) for name, chosen in self.split.items()}
        data = digest([self.sets.tokens, self.sets.ptr, self.sets.y, *self.split.values()])
        return (
            f"{type(self).__name__}({len(self.sets.tokens)} tokens, {sizes}, "
            f"batch_size={self.batch_size}, data={data})"
        )
