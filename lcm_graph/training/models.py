"""The two models: a set function, and a graph network for molecules."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.aggr import Aggregation

from lcm_graph.aggregators import aggregation_by_name
from lcm_graph.datasets.ogb_import import import_ogb


class BitEmbedding(nn.Module):
    """Embed integers by their bits: bit i adds ``one[i]`` if set, ``zero[i]`` if not.

    Args:
        bits: bits per integer.
        channels: size of the embedding.

    Source: Ong and Veličković (2022), appendix C. How the bits' vectors are combined is not stated
    there; they are summed here, as in PyG's example.
    """

    def __init__(self, bits: int, channels: int) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.empty(bits, channels))
        self.zero = nn.Parameter(torch.empty(bits, channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.one)
        nn.init.normal_(self.zero)

    def forward(self, x: Tensor) -> Tensor:
        """Bits ``[n, bits]`` in {0, 1} -> embeddings ``[n, channels]``."""
        return torch.addmm(self.zero.sum(0), x, self.one - self.zero)


class SetModel(nn.Module):
    """Embed, encode, aggregate, decode: a function of sets of integers.

    Args:
        aggr: name of an aggregation, or an instance that takes ``hidden`` channels (``bits``
            without ``encode``) and has ``out_channels`` (``hidden`` if it has no such attribute).
        bits: bits per element.
        hidden: width of everything.
        num_outputs: size of an answer, see :meth:`lcm_graph.datasets.SetFunction.num_outputs`;
            ``bits`` if None.
        encode: False: nothing is embedded, the aggregation takes the bits themselves.

    Source: Ong and Veličković (2022), section 3.1 and appendix C, with ``hidden`` 128. Their
    sigmoid is left to the loss (binary cross-entropy with logits).
    """

    def __init__(
        self,
        aggr: str | Aggregation,
        bits: int = 8,
        hidden: int = 128,
        num_outputs: int | None = None,
        encode: bool = True,
    ) -> None:
        super().__init__()
        if isinstance(aggr, str):
            aggr = aggregation_by_name(aggr, hidden if encode else bits, hidden)
        pooled = int(getattr(aggr, "out_channels", hidden))
        self.embed: nn.Module = nn.Identity()
        self.encode: nn.Module = nn.Identity()
        if encode:
            self.embed = BitEmbedding(bits, hidden)
            self.encode = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU())
        self.aggr = aggr
        num_outputs = bits if num_outputs is None else num_outputs
        self.decode = nn.Sequential(
            nn.Linear(pooled, hidden), nn.GELU(), nn.Linear(hidden, num_outputs)
        )

    def forward(self, x: Tensor, ptr: Tensor) -> Tensor:
        """Bits ``[n, bits]`` in sets ``ptr [S + 1]`` -> ``[S, num_outputs]``."""
        out: Tensor = self.decode(self.aggr(self.encode(self.embed(x)), ptr=ptr))
        return out


class MoleculeConv(MessagePassing):
    """x_u' = MLP((1 + eps) x_u + aggr over v of ReLU(x_v + bond_vu)), as GIN with edge features.

    Args:
        aggr: name of the neighbourhood aggregation.
        hidden: size of node states.

    Source: Xu et al., "How Powerful are Graph Neural Networks?" (2019), section 4; edge features as
    in Hu et al., "Strategies for Pre-training Graph Neural Networks" (2020) and OGB's examples.
    """

    def __init__(self, aggr: str, hidden: int) -> None:
        aggregation = aggregation_by_name(aggr, hidden, hidden)
        super().__init__(aggr=aggregation)
        (bond_encoder,) = _ogb_encoders("BondEncoder")
        self.bonds = bond_encoder(hidden)
        self.narrow = _to_width(aggregation, hidden)
        self.eps = nn.Parameter(torch.zeros(1))
        self.mlp = nn.Sequential(
            nn.Linear(hidden, 2 * hidden),
            _BatchNorm(2 * hidden),
            nn.ReLU(),
            nn.Linear(2 * hidden, hidden),
        )

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        """Node states ``[N, hidden]``, edges ``[2, E]`` and OGB's bond features ``[E, 3]``."""
        out = self.narrow(self.propagate(edge_index, x=x, bond=self.bonds(edge_attr)))
        result: Tensor = self.mlp((1 + self.eps) * x + out)
        return result

    def message(self, x_j: Tensor, bond: Tensor) -> Tensor:
        return (x_j + bond).relu()


class MoleculeGNN(nn.Module):
    """A graph network for OGB's molecules, with one kind of aggregation throughout.

    Args:
        aggr: name of the neighbourhood aggregation.
        hidden: size of node and graph states.
        num_layers: number of message-passing layers.
        num_tasks: number of outputs per graph.
        dropout: probability, after every layer.
        readout: name of the aggregation of a graph's nodes; ``aggr`` if None.

    Raises:
        ImportError: OGB, whose atom and bond encoders are used, is not installed.
        ValueError: unknown aggregation.
    """

    def __init__(
        self,
        aggr: str,
        hidden: int = 64,
        num_layers: int = 3,
        num_tasks: int = 1,
        dropout: float = 0.0,
        readout: str | None = None,
    ) -> None:
        super().__init__()
        (atom_encoder,) = _ogb_encoders("AtomEncoder")
        self.atoms = atom_encoder(hidden)
        self.convs = nn.ModuleList(MoleculeConv(aggr, hidden) for _ in range(num_layers))
        self.norms = nn.ModuleList(_BatchNorm(hidden) for _ in range(num_layers))
        self.dropout = nn.Dropout(dropout)
        self.readout = aggregation_by_name(readout or aggr, hidden, hidden)
        self.narrow = _to_width(self.readout, hidden)
        self.head = nn.Linear(hidden, num_tasks)

    def forward(self, batch: Any) -> Tensor:
        """A PyG ``Batch`` of G graphs with OGB's features -> ``[G, num_tasks]``."""
        x = self.atoms(batch.x)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = x + self.dropout(norm(conv(x, batch.edge_index, batch.edge_attr)).relu())
        pooled = self.readout(x, ptr=batch.ptr, dim_size=batch.num_graphs)
        out: Tensor = self.head(self.narrow(pooled))
        return out


class _BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that uses its running statistics for a batch of one node."""

    def forward(self, input: Tensor) -> Tensor:
        if self.training and input.size(0) == 1:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(input)


def _to_width(aggregation: Aggregation, hidden: int) -> nn.Module:
    """A linear layer from an aggregation's outputs to ``hidden``, if they are of another width."""
    pooled = int(aggregation.out_channels)
    return nn.Linear(pooled, hidden) if pooled != hidden else nn.Identity()


def _ogb_encoders(*names: str) -> tuple[Any, ...]:
    module = import_ogb("ogb.graphproppred.mol_encoder")
    return tuple(getattr(module, name) for name in names)
