"""Classify the nodes of one graph."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Data

from lcm_graph.training.tasks.parts import (
    checked_classes,
    checked_split,
    device_of,
    digest,
    known_split,
)


class NodeTask:
    """Learn the classes of some nodes of a graph and answer for others; the metric is accuracy.

    Trained on all of the graph at once, or on parts of it: each epoch deals the nodes into random
    parts, of which each keeps the edges within it. Evaluated on all of it.

    Args:
        data: a graph with ``y`` int64 ``[N]``.
        split: ``"train"``, ``"valid"`` and maybe ``"test"`` -> int64 node indices.
        parts: parts of an epoch, one training step each.

    Raises:
        ValueError: ``parts`` is below 1, a split is missing, empty or not disjoint from another, or
            ``y`` is no class of each node in it.
    """

    maximize = True

    def __init__(self, data: Data, split: Mapping[str, Tensor], *, parts: int = 1) -> None:
        if parts < 1:
            raise ValueError(f"parts must be at least 1 (got {parts})")
        self.split, self.parts = checked_split(split, int(data.num_nodes), "nodes"), parts
        checked_classes(data.y, int(data.num_nodes), self.split)
        self.data = data.clone()
        self.data.node_id = torch.arange(int(data.num_nodes))
        self.data.is_train = torch.zeros(int(data.num_nodes), dtype=torch.bool)
        self.data.is_train[self.split["train"]] = True

    @property
    def steps_per_epoch(self) -> int:
        return self.parts

    def train_batches(self, generator: torch.Generator) -> Iterator[Any]:
        if self.parts == 1:
            yield self.data
            return
        part = torch.randint(self.parts, (int(self.data.num_nodes),), generator=generator)
        for number in range(self.parts):
            yield self.data.subgraph(part == number)

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Mean cross-entropy over the training nodes of ``batch``; 0 if there are none."""
        batch = copy.copy(batch).to(device_of(model))  # `to` alone would move the task's own graph
        out, y = model(batch)[batch.is_train], batch.y[batch.is_train]
        return F.cross_entropy(out, y, reduction="sum") / max(1, len(y))

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str) -> float:
        """Fraction of the nodes of ``split`` whose class is answered right."""
        nodes = self.split[known_split(split, self.split)]
        was_training = model.training
        model.eval()
        answers = model(copy.copy(self.data).to(device_of(model))).argmax(1).cpu()
        model.train(was_training)
        return float((answers[nodes] == self.data.y[nodes]).double().mean())

    def __repr__(self) -> str:
        sizes = {name: len(nodes) for name, nodes in self.split.items()}
        data = digest([self.data, *self.split.values()])
        return f"{type(self).__name__}({self.data}, {sizes}, parts={self.parts}, data={data})"
