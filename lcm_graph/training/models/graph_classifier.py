"""Graph isomorphism networks that differ in how a graph's nodes are read out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import GINConv
from torch_geometric.utils import degree

from lcm_graph.aggregators import aggregation_by_name
from lcm_graph.training.models.parts import BatchNorm, to_width


class GraphClassifier(nn.Module):
    """GIN on the degrees of a graph without features, a normalised readout, a perceptron.

    Args:
        readout: name of the aggregation of a graph's nodes.
        num_classes: number of classes.
        hidden: size of node states.
        num_layers: number of message-passing layers, which sum.
        dropout: probability, before the answer.

    Raises:
        ValueError: unknown aggregation.

    Source: Xu et al., "How Powerful are Graph Neural Networks?" (2019), section 7; there the
    readouts of all layers are put side by side.
    """

    def __init__(
        self,
        readout: str,
        num_classes: int,
        hidden: int = 32,
        num_layers: int = 3,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        widths = [2, *[hidden] * num_layers]
        self.convs = nn.ModuleList(
            GINConv(
                nn.Sequential(
                    nn.Linear(taken, hidden),
                    BatchNorm(hidden),
                    nn.ReLU(),
                    nn.Linear(hidden, hidden),
                    BatchNorm(hidden),
                    nn.ReLU(),
                ),
                train_eps=True,
            )
            for taken in widths[:-1]
        )
        self.readout = aggregation_by_name(readout, hidden, hidden)
        self.narrow = to_width(self.readout, hidden)
        self.head = nn.Sequential(
            BatchNorm(hidden),  # sums of thousands of nodes are large, means are not
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, batch: Any) -> Tensor:
        """A PyG ``Batch`` of G graphs -> ``[G, num_classes]``."""
        degrees = degree(batch.edge_index[1], batch.num_nodes).log1p()
        x = torch.stack([torch.ones_like(degrees), degrees], dim=1)
        for conv in self.convs:
            x = conv(x, batch.edge_index)
        out: Tensor = self.head(self.narrow(self.readout(x, ptr=batch.ptr)))
        return out
