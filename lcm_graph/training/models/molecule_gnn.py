"""A graph network for molecules."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lcm_graph.aggregators import aggregation_by_name
from lcm_graph.training.models.molecule_convs import MOLECULE_CONVS, ogb_encoders
from lcm_graph.training.models.parts import BatchNorm, to_width


class MoleculeGNN(nn.Module):
    """A graph network for OGB's molecules, with one kind of aggregation throughout.

    Args:
        aggr: name of the neighbourhood aggregation.
        hidden: size of node and graph states.
        num_layers: number of message-passing layers.
        num_tasks: number of outputs per graph.
        dropout: probability, after every layer.
        readout: name of the aggregation of a graph's nodes; ``aggr`` if None.
        conv: one of :data:`MOLECULE_CONVS`.
        degree: degrees in training, for the degree scalers of ``"pna"`` in the neighbourhood, see
            :func:`lcm_graph.aggregators.aggregation_by_name`.

    Raises:
        ImportError: OGB, whose atom and bond encoders are used, is not installed.
        ValueError: unknown aggregation, or no such layer.
    """

    def __init__(
        self,
        aggr: str,
        hidden: int = 64,
        num_layers: int = 3,
        num_tasks: int = 1,
        dropout: float = 0.0,
        readout: str | None = None,
        conv: str = "gin",
        degree: Tensor | None = None,
    ) -> None:
        super().__init__()
        if conv not in MOLECULE_CONVS:
            raise ValueError(f"conv must be one of {', '.join(MOLECULE_CONVS)} (got {conv!r})")
        (atom_encoder,) = ogb_encoders("AtomEncoder")
        self.atoms = atom_encoder(hidden)
        make = MOLECULE_CONVS[conv]
        self.convs = nn.ModuleList(make(aggr, hidden, degree) for _ in range(num_layers))
        self.norms = nn.ModuleList(BatchNorm(hidden) for _ in range(num_layers))
        self.dropout = nn.Dropout(dropout)
        self.readout = aggregation_by_name(readout or aggr, hidden, hidden)
        self.narrow = to_width(self.readout, hidden)
        self.pooled_norm = BatchNorm(hidden)  # sums of many nodes are large, means are not
        self.head = nn.Linear(hidden, num_tasks)

    def forward(self, batch: Any) -> Tensor:
        """A PyG ``Batch`` of G graphs with OGB's features -> ``[G, num_tasks]``."""
        x = self.atoms(batch.x)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = x + self.dropout(norm(conv(x, batch.edge_index, batch.edge_attr)).relu())
        pooled = self.readout(x, ptr=batch.ptr, dim_size=batch.num_graphs)
        out: Tensor = self.head(self.pooled_norm(self.narrow(pooled)))
        return out
