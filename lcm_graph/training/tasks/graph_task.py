"""Classify graphs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from lcm_graph.training.tasks.parts import checked_graphs, device_of, digest, known_split


class GraphTask:
    """Learn a class for each graph; the metric is accuracy.

    Args:
        graphs: ``"train"``, ``"valid"`` and maybe ``"test"`` -> graphs with ``y`` int64 ``[1]``.
        batch_size: graphs per batch.

    Raises:
        ValueError: ``batch_size`` is below 1, a split is missing or empty, or a graph is in two.
    """

    maximize = True

    def __init__(self, graphs: Mapping[str, Sequence[Data]], *, batch_size: int = 32) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1 (got {batch_size})")
        self.graphs, self.batch_size = checked_graphs(graphs), batch_size

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.graphs["train"]) // self.batch_size)

    def train_batches(self, generator: torch.Generator) -> Iterable[Any]:
        return DataLoader(self.graphs["train"], self.batch_size, shuffle=True, generator=generator)

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Mean cross-entropy over graphs."""
        batch = batch.to(device_of(model))
        return F.cross_entropy(model(batch), batch.y)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str) -> float:
        """Fraction of the graphs of ``split`` whose class is answered right."""
        graphs = self.graphs[known_split(split, self.graphs)]
        was_training = model.training
        model.eval()
        right = 0
        for batch in DataLoader(graphs, self.batch_size):
            batch = batch.to(device_of(model))
            right += int((model(batch).argmax(1) == batch.y).sum())
        model.train(was_training)
        return right / len(graphs)

    def __repr__(self) -> str:
        counts = {split: len(graphs) for split, graphs in self.graphs.items()}
        data = digest(graph for graphs in self.graphs.values() for graph in graphs)
        return f"{type(self).__name__}({counts}, batch_size={self.batch_size}, data={data})"
