"""Message-passing layers that take OGB's bond features, with any aggregation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import degree as node_degree

from lcm_graph.aggregators import aggregation_by_name
from lcm_graph.datasets.molecules.ogb_import import import_ogb
from lcm_graph.training.models.parts import BatchNorm, to_width


class MoleculeConv(MessagePassing):
    """Base of the layers: the aggregation, and bonds embedded.

    Args:
        aggr: name of the neighbourhood aggregation.
        hidden: size of node states.
        degree: see :func:`lcm_graph.aggregators.aggregation_by_name`.

    Raises:
        ImportError: OGB, whose bond encoder is used, is not installed.
        ValueError: unknown aggregation.
    """

    def __init__(self, aggr: str, hidden: int, degree: Tensor | None = None) -> None:
        aggregation = aggregation_by_name(aggr, hidden, hidden, degree=degree)
        super().__init__(aggr=aggregation)
        (bond_encoder,) = ogb_encoders("BondEncoder")
        self.bonds = bond_encoder(hidden)
        self.narrow = to_width(aggregation, hidden)

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        """Node states ``[N, hidden]``, edges ``[2, E]`` and OGB's bond features ``[E, 3]``."""
        raise NotImplementedError


class MoleculeGIN(MoleculeConv):
    """x_u' = MLP((1 + eps) x_u + aggr over v of ReLU(x_v + bond_vu)).

    Source: Xu et al., "How Powerful are Graph Neural Networks?" (2019), section 4; edge features as
    in Hu et al., "Strategies for Pre-training Graph Neural Networks" (2020) and OGB's examples.
    """

    def __init__(self, aggr: str, hidden: int, degree: Tensor | None = None) -> None:
        super().__init__(aggr, hidden, degree)
        self.eps = nn.Parameter(torch.zeros(1))
        self.mlp = nn.Sequential(
            nn.Linear(hidden, 2 * hidden),
            BatchNorm(2 * hidden),
            nn.ReLU(),
            nn.Linear(2 * hidden, hidden),
        )

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        out = self.narrow(self.propagate(edge_index, x=x, bond=self.bonds(edge_attr)))
        result: Tensor = self.mlp((1 + self.eps) * x + out)
        return result

    def message(self, x_j: Tensor, bond: Tensor) -> Tensor:
        return (x_j + bond).relu()


class MoleculeGCN(MoleculeConv):
    """x_u' = aggr over v of ReLU(W x_v + bond_vu) / √(d_u d_v) + ReLU(W x_u + r) / d_u.

    d is a node's degree, and 1 for itself.

    Source: Kipf and Welling, "Semi-Supervised Classification with Graph Convolutional Networks"
    (2017), section 2; edge features and the learned r as in OGB's examples.
    """

    def __init__(self, aggr: str, hidden: int, degree: Tensor | None = None) -> None:
        super().__init__(aggr, hidden, degree)
        self.linear = nn.Linear(hidden, hidden)
        self.root = nn.Parameter(torch.zeros(hidden))

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        x = self.linear(x)
        degree = 1 + node_degree(edge_index[1], x.size(0), x.dtype)
        root = degree.rsqrt().unsqueeze(1)
        out = self.propagate(edge_index, x=x, bond=self.bonds(edge_attr), root=root)
        result: Tensor = self.narrow(out) + (x + self.root).relu() / degree.unsqueeze(1)
        return result

    def message(self, x_j: Tensor, bond: Tensor, root_i: Tensor, root_j: Tensor) -> Tensor:
        return root_i * root_j * (x_j + bond).relu()


class MoleculePNA(MoleculeConv):
    """x_u' = W [x_u, aggr over v of (A x_u + B x_v + bond_vu)].

    Source: Corso et al., "Principal Neighbourhood Aggregation for Graph Nets" (2020), section 3.
    The affine map of both ends is computed once a node, not once an edge.
    """

    def __init__(self, aggr: str, hidden: int, degree: Tensor | None = None) -> None:
        super().__init__(aggr, hidden, degree)
        width = int(self.aggr_module.out_channels)
        self.narrow = nn.Identity()  # the layer after it takes any width
        self.target = nn.Linear(hidden, hidden)
        self.source = nn.Linear(hidden, hidden, bias=False)
        self.after = nn.Linear(hidden + width, hidden)

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        pooled = self.propagate(
            edge_index, target=self.target(x), source=self.source(x), bond=self.bonds(edge_attr)
        )
        result: Tensor = self.after(torch.cat([x, pooled], dim=-1))
        return result

    def message(self, target_i: Tensor, source_j: Tensor, bond: Tensor) -> Tensor:
        return target_i + source_j + bond


MOLECULE_CONVS: dict[str, type[MoleculeConv]] = {
    "gin": MoleculeGIN,
    "gcn": MoleculeGCN,
    "pna": MoleculePNA,
}
"""The layers by name."""


def ogb_encoders(*names: str) -> tuple[Any, ...]:
    """Classes of OGB's atom and bond encoders."""
    module = import_ogb("ogb.graphproppred.mol_encoder")
    return tuple(getattr(module, name) for name in names)
