"""A function of sets of integers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.nn.aggr import Aggregation

from lcm_graph.aggregators import aggregation_by_name


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
