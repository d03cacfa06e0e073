"""A graph network that classifies nodes by whom they are joined with, and how."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from lcm_graph.aggregators import aggregation_by_name
from lcm_graph.training.models.parts import to_width


class TypedConv(MessagePassing):
    """x_u' = W x_u + V aggr over v of ReLU(x_v + type_vu).

    Args:
        aggr: name of the neighbourhood aggregation.
        hidden: size of node states.
        num_types: number of edge types.
        degree: see :func:`lcm_graph.aggregators.aggregation_by_name`.

    Source: Hamilton et al., "Inductive Representation Learning on Large Graphs" (2017), algorithm
    1; edge types are embedded like edge features in Hu et al., "Strategies for Pre-training Graph
    Neural Networks" (2020).
    """

    def __init__(
        self, aggr: str, hidden: int, num_types: int, degree: Tensor | None = None
    ) -> None:
        aggregation = aggregation_by_name(aggr, hidden, hidden, degree=degree)
        super().__init__(aggr=aggregation)
        self.types = nn.Embedding(num_types, hidden)
        self.narrow = to_width(aggregation, hidden)
        self.own = nn.Linear(hidden, hidden)
        self.others = nn.Linear(hidden, hidden, bias=False)

    def forward(self, x: Tensor, edge_index: Tensor, edge_type: Tensor) -> Tensor:
        """Node states ``[N, hidden]``, edges ``[2, E]`` and their types ``[E]``."""
        pooled = self.narrow(self.propagate(edge_index, x=x, type=self.types(edge_type)))
        out: Tensor = self.own(x) + self.others(pooled)
        return out

    def message(self, x_j: Tensor, type: Tensor) -> Tensor:
        return (x_j + type).relu()


class NodeGNN(nn.Module):
    """Embed nodes, pass messages along and against the edges, classify.

    Each node has an embedding of its own, by which it is known to its neighbours: of two packages
    that depend on the same ones, both see the same.

    Args:
        aggr: name of the neighbourhood aggregation.
        num_nodes: nodes of the whole graph.
        num_edge_types: number of edge types; those against an edge count as others.
        num_classes: number of classes.
        hidden: size of node states.
        num_layers: number of message-passing layers.
        dropout: probability, before each layer and before the answer.
        degree: degrees, both ways, for the scalers of ``"pna"``.

    Raises:
        ValueError: unknown aggregation.
    """

    def __init__(
        self,
        aggr: str,
        num_nodes: int,
        num_edge_types: int,
        num_classes: int,
        hidden: int = 32,
        num_layers: int = 2,
        dropout: float = 0.2,
        degree: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.nodes = nn.Embedding(num_nodes, hidden)
        nn.init.normal_(self.nodes.weight, std=0.1)
        self.convs = nn.ModuleList(
            TypedConv(aggr, hidden, 2 * num_edge_types, degree) for _ in range(num_layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(num_layers))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, num_classes)

    def forward(self, data: Any) -> Tensor:
        """A graph with ``node_id [N]``, ``edge_index`` both ways and ``edge_type`` ->
        ``[N, num_classes]``."""
        x = self.nodes(data.node_id)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(self.dropout(x), data.edge_index, data.edge_type)).relu()
        out: Tensor = self.head(self.dropout(x))
        return out
