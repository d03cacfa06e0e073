"""PyG's own aggregations, called as this library's are, to compare with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.nn import MLP, aggr
from torch_geometric.nn.aggr import Aggregation


class PyGAggregation(Aggregation):
    """One of PyG's aggregations, given the sorted ``index`` that it asks for.

    Args:
        aggregation: takes elements in sorted order.
        out_channels: size of its outputs, which PyG's classes do not all tell.
    """

    def __init__(self, aggregation: Aggregation, out_channels: int) -> None:
        super().__init__()
        self.aggregation, self.out_channels = aggregation, out_channels

    def reset_parameters(self) -> None:
        self.aggregation.reset_parameters()

    def forward(
        self,
        x: Tensor,
        index: Tensor | None = None,
        ptr: Tensor | None = None,
        dim_size: int | None = None,
        dim: int = -2,
    ) -> Tensor:
        """Elements ``[n, F]`` -> ``[S, out_channels]``."""
        if index is None and ptr is not None:
            sets = torch.arange(ptr.numel() - 1, device=x.device)
            index = sets.repeat_interleave(ptr.diff(), output_size=x.size(dim))
        if index is not None and (index.diff() < 0).any():
            index, order = index.sort(stable=True)
            x = x.index_select(dim, order)
        out: Tensor = self.aggregation(x, index, dim_size=dim_size, dim=dim)
        return out


def pna(hidden: int) -> PyGAggregation:
    """Mean, maximum, minimum and standard deviation, each with three degree scalers
    (Corso et al., "Principal Neighbourhood Aggregation for Graph Nets", 2020), which are normalised
    for sizes U{1, ..., 16}."""
    sizes = torch.ones(17, dtype=torch.long)
    sizes[0] = 0
    statistics = aggr.MultiAggregation(["mean", "max", "min", "std"])
    scalers = ["identity", "amplification", "attenuation"]
    scaled = aggr.DegreeScalerAggregation(statistics, scalers, sizes)
    return PyGAggregation(scaled, len(statistics.aggrs) * len(scalers) * hidden)


def lcm(in_channels: int, out_channels: int) -> PyGAggregation:
    """PyG's learnable commutative monoid, which combines the padding too."""
    return PyGAggregation(aggr.LCMAggregation(in_channels, out_channels), out_channels)


def gru(in_channels: int, out_channels: int) -> PyGAggregation:
    """PyG's recurrent network, which reads the padding too."""
    return PyGAggregation(aggr.GRUAggregation(in_channels, out_channels), out_channels)


def deep_sets(hidden: int) -> PyGAggregation:
    """A sum between two perceptrons (Zaheer et al., "Deep Sets", 2017), not normalised."""
    inner, outer = (MLP([hidden, hidden, hidden], norm=None) for _ in range(2))
    return PyGAggregation(aggr.DeepSetsAggregation(inner, outer), hidden)


def set_transformer(hidden: int, heads: int = 4) -> PyGAggregation:
    """Attention between all elements, then of one learned seed over all (Lee et al., "Set
    Transformer", 2019), without layer normalisation, as PyG's default is.

    Raises:
        ValueError: ``hidden`` is no multiple of ``heads``.
    """
    if hidden % heads:
        raise ValueError(
            f"hidden must be a multiple of {heads}, the heads of a set transformer (got {hidden})"
        )
    return PyGAggregation(aggr.SetTransformerAggregation(hidden, heads=heads), hidden)
