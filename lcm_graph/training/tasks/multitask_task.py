"""The PNA multitask benchmark: six labels at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from lcm_graph.datasets import GRAPH_LABELS, NODE_LABELS
from lcm_graph.training.tasks.parts import checked_graphs, device_of, digest, known_split

_EVAL_BATCH_SIZE = 256


class MultitaskTask:
    """Predict three labels of each node and three of each graph.

    Labels are divided by the largest of their kind in the training set, if that is above 0. The
    loss is the mean of the six squared errors; the metric is the mean of the six log₁₀ of them.

    Args:
        graphs: split -> graphs, see :func:`lcm_graph.datasets.multitask_graphs`; ``"train"`` and
            ``"valid"`` among them, others to be tested on, of any sizes.
        batch_size: graphs per training batch, which are of one size.

    Raises:
        ValueError: ``batch_size`` is below 1, a split is missing or empty, or a graph is in two.

    Source: Corso et al., "Principal Neighbourhood Aggregation for Graph Nets" (2020), section 4.
    """

    maximize = False

    def __init__(self, graphs: Mapping[str, Sequence[Data]], *, batch_size: int = 128) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1 (got {batch_size})")
        graphs = checked_graphs(graphs)
        self.graphs = {split: _by_size(listed) for split, listed in graphs.items()}
        self.batch_size = batch_size
        train = graphs["train"]
        self.node_scale = _scale([graph.y for graph in train])
        self.graph_scale = _scale([graph.graph_y for graph in train])

    @property
    def steps_per_epoch(self) -> int:
        return sum(-(-len(same) // self.batch_size) for same in self.graphs["train"].values())

    def train_batches(self, generator: torch.Generator) -> Iterator[Any]:
        """One epoch: every graph once, in batches of one size each, in random order."""
        chunks = [
            [same[place] for place in places]
            for same in self.graphs["train"].values()
            for places in _shuffled(len(same), generator).split(self.batch_size)
        ]
        for number in _shuffled(len(chunks), generator):
            yield Batch.from_data_list(chunks[number])

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Mean of the six labels' mean squared errors."""
        return self._errors(model, batch).mean()

    def evaluate(self, model: nn.Module, split: str) -> float:
        """Mean of the six labels' log₁₀ mean squared errors."""
        return float(self.errors(model, split).log10().mean())

    @torch.no_grad()
    def errors(self, model: nn.Module, split: str) -> Tensor:
        """Mean squared errors ``[6]``: of nodes' labels, then of graphs', in the order of
        :data:`~lcm_graph.datasets.NODE_LABELS` and :data:`~lcm_graph.datasets.GRAPH_LABELS`.

        Each size of graphs weighs the same, as in the benchmark.
        """
        known_split(split, self.graphs)
        was_training = model.training
        model.eval()
        by_size = []
        for same in self.graphs[split].values():
            starts = range(0, len(same), _EVAL_BATCH_SIZE)
            parts = [same[start : start + _EVAL_BATCH_SIZE] for start in starts]
            errors = [self._errors(model, Batch.from_data_list(part)) * len(part) for part in parts]
            by_size.append(torch.stack(errors).sum(0) / len(same))
        model.train(was_training)
        return torch.stack(by_size).mean(0).cpu()

    def constant_errors(self, split: str) -> Tensor:
        """:meth:`errors` of constants, the training labels' means, a size weighing as much as
        another."""
        mean = {"y": self._means("y"), "graph_y": self._means("graph_y")}
        errors = [
            torch.cat(
                [
                    ((_stacked(same, name) / scale - mean[name]) ** 2).mean(0)
                    for name, scale in (("y", self.node_scale), ("graph_y", self.graph_scale))
                ]
            )
            for same in self.graphs[known_split(split, self.graphs)].values()
        ]
        return torch.stack(errors).mean(0)

    def _means(self, name: str) -> Tensor:
        scale = self.node_scale if name == "y" else self.graph_scale
        sizes = self.graphs["train"].values()
        return torch.stack([_stacked(same, name).mean(0) / scale for same in sizes]).mean(0)

    def _errors(self, model: nn.Module, batch: Any) -> Tensor:
        device = device_of(model)
        batch = batch.to(device)
        of_nodes, of_graphs = model(batch)
        return torch.cat(
            [
                (of_nodes - batch.y / self.node_scale.to(device)).square().mean(0),
                (of_graphs - batch.graph_y / self.graph_scale.to(device)).square().mean(0),
            ]
        )

    def __repr__(self) -> str:
        counts = {split: sum(map(len, sizes.values())) for split, sizes in self.graphs.items()}
        sizes = [same for splits in self.graphs.values() for same in splits.values()]
        data = digest(graph for same in sizes for graph in same)
        return f"{type(self).__name__}({counts}, batch_size={self.batch_size}, data={data})"


LABELS = (*NODE_LABELS, *GRAPH_LABELS)
"""What :meth:`MultitaskTask.errors` tells of, in this order."""


def _scale(labels: Sequence[Tensor]) -> Tensor:
    """The largest of each kind; 1 of a kind that is 0 or less throughout."""
    largest = torch.cat(list(labels)).amax(0)
    return torch.where(largest > 0, largest, 1)


def _by_size(graphs: Sequence[Data]) -> dict[int, list[Data]]:
    sizes: dict[int, list[Data]] = {}
    for graph in graphs:
        sizes.setdefault(int(graph.num_nodes), []).append(graph)
    return sizes


def _stacked(graphs: Sequence[Data], name: str) -> Tensor:
    return torch.cat([graph[name] for graph in graphs])


def _shuffled(n: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(n, generator=generator)
