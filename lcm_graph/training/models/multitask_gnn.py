"""The recurrent graph network of the PNA multitask benchmark."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import MLP, MessagePassing
from torch_geometric.nn.aggr import Set2Set

from lcm_graph.aggregators import aggregation_by_name


class Tower(MessagePassing):
    """x_u' = W [x_u, aggr over v of (A x_u + B x_v)]: affine before and after the aggregation.

    Args:
        aggr: name of the neighbourhood aggregation.
        in_channels: size of node states, and of messages.
        out_channels: size of the result.
        degree: see :func:`lcm_graph.aggregators.aggregation_by_name`.

    Source: Corso et al., "Principal Neighbourhood Aggregation for Graph Nets" (2020), section 3 and
    their code. The affine map of two nodes side by side is computed once a node, not once an edge.
    """

    def __init__(
        self, aggr: str, in_channels: int, out_channels: int, degree: Tensor | None = None
    ) -> None:
        aggregation = aggregation_by_name(aggr, in_channels, in_channels, degree=degree)
        super().__init__(aggr=aggregation)
        self.target = nn.Linear(in_channels, in_channels)
        self.source = nn.Linear(in_channels, in_channels, bias=False)
        self.after = nn.Linear(in_channels + int(aggregation.out_channels), out_channels)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Node states ``[N, in_channels]``, edges ``[2, E]`` -> ``[N, out_channels]``."""
        pooled = self.propagate(edge_index, target=self.target(x), source=self.source(x))
        out: Tensor = self.after(torch.cat([x, pooled], dim=-1))
        return out

    def message(self, target_i: Tensor, source_j: Tensor) -> Tensor:
        return target_i + source_j


class MultitaskGNN(nn.Module):
    """Encode, pass messages with one layer half as often as there are nodes, answer.

    Each round: towers side by side, a linear layer and LeakyReLU that mix them, a GRU cell whose
    state is the node's and whose input is what they found. Nodes are answered by a
    perceptron, graphs by :class:`~torch_geometric.nn.aggr.Set2Set` with as many steps as there are
    nodes, and a perceptron.

    Args:
        aggr: name of the neighbourhood aggregation.
        hidden: size of node states.
        towers: how many layers share a round's work.
        divide: give each tower its share of the state, instead of all of it.
        degree: degrees in training, for ``"pna"``.

    Raises:
        ValueError: ``hidden`` is no multiple of ``towers``, or the aggregation is unknown.

    Source: Corso et al. (2020), section 4 and their code (Set2Set too is theirs; Ong and Veličković
    (2022) write of a sum). Unlike there, the GRU cell keeps the node's state (Li et al., "Gated
    Graph Sequence Neural Networks", 2016): the other way round states grow from round to round,
    and training with a fixed aggregation may collapse. The features are brought to ``hidden`` by a
    linear layer first, so that all rounds share one layer; layers begin as torch's do; no LeakyReLU
    follows the answers, some of which are negative; and batches, which are of one size each, are
    not normalised.
    """

    def __init__(
        self,
        aggr: str,
        hidden: int = 16,
        towers: int = 1,
        divide: bool = False,
        degree: Tensor | None = None,
    ) -> None:
        super().__init__()
        if towers < 1 or hidden % towers:
            raise ValueError(
                f"hidden must be a multiple of towers (got hidden={hidden}, towers={towers})"
            )
        self.encode = nn.Linear(2, hidden)
        self.divide = divide
        share = hidden // towers
        self.towers = nn.ModuleList(
            Tower(aggr, share if divide else hidden, share, degree) for _ in range(towers)
        )
        self.mix = nn.Linear(hidden, hidden)
        self.update = nn.GRUCell(hidden, hidden)
        self.readout = Set2Set(hidden, processing_steps=1)
        self.node_head = MLP([hidden, hidden, hidden, 3], act="leaky_relu", norm=None)
        self.graph_head = MLP([2 * hidden, hidden, hidden, 3], act="leaky_relu", norm=None)

    def forward(self, batch: Any) -> tuple[Tensor, Tensor]:
        """A PyG ``Batch`` of G graphs of N nodes each -> labels ``[G N, 3]`` and ``[G, 3]``.

        Raises:
            ValueError: the graphs are of different sizes, and would need different numbers of
                rounds.
        """
        size, rest = divmod(batch.num_nodes, batch.num_graphs)
        if rest or (batch.ptr.diff() != size).any():
            raise ValueError(
                "batch must hold graphs of one size, since rounds are half as many as nodes "
                f"(got sizes {batch.ptr.diff().unique().tolist()}); MultitaskTask makes such"
            )
        x = self.encode(batch.x)
        for _ in range(size // 2):
            shares = x.chunk(len(self.towers), -1) if self.divide else [x] * len(self.towers)
            found = torch.cat(
                [
                    tower(share, batch.edge_index)
                    for tower, share in zip(self.towers, shares, strict=True)
                ],
                dim=-1,
            )
            x = self.update(F.leaky_relu(self.mix(found)), x)
        self.readout.processing_steps = size
        pooled = self.readout(x, batch.batch, dim_size=batch.num_graphs)
        return self.node_head(x), self.graph_head(pooled)
