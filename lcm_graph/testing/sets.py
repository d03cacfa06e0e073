"""An aggregation on trial: fresh copies of it, and sets to try it on."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.nn.aggr import Aggregation

from lcm_graph.testing.subject import ragged_index

SIZES = (3, 0, 1, 5, 2, 0, 17, 4)
"""Sizes of sets that calls are tried on; none of the last, so that PyG counts them all."""


@dataclass(frozen=True)
class AggregationSubject:
    """See :func:`~lcm_graph.testing.check_aggregation`."""

    aggregation: Aggregation
    in_channels: int
    permutation_invariant: bool
    seed: int
    dtype: torch.dtype

    def fresh(self, dtype: torch.dtype | None = None) -> Aggregation:
        """A copy in eval mode whose floating-point parameters have ``dtype``."""
        return copy.deepcopy(self.aggregation).to(self.dtype if dtype is None else dtype).eval()

    def draw(self, n: int, salt: int = 0, dtype: torch.dtype | None = None) -> Tensor:
        """``n`` elements ``[n, in_channels]``, the same for the same ``salt``."""
        generator = torch.Generator().manual_seed(1000 * self.seed + salt)
        x = torch.randn(n, self.in_channels, generator=generator, dtype=torch.float64)
        return x.to(self.dtype if dtype is None else dtype)

    def index(self, sizes: tuple[int, ...]) -> Tensor:
        """The set of each element, for sets of ``sizes`` laid end to end."""
        return ragged_index(sizes)

    def ptr(self, sizes: tuple[int, ...]) -> Tensor:
        """Where each set begins and the last one ends."""
        return torch.tensor([0, *sizes]).cumsum(0)

    def alone(self, aggregation: Aggregation, x: Tensor) -> Tensor:
        """The answer ``[1, out]`` for one set ``x`` without any other."""
        index = torch.zeros(x.size(0), dtype=torch.long)
        out: Tensor = aggregation(x, index, dim_size=1)
        return out

    def evaluate(self, module: nn.Module) -> Tensor:
        """Aggregate sets of :data:`SIZES`."""
        index = self.index(SIZES)
        out: Tensor = module(self.draw(len(index)).to(_dtype(module, self.dtype)), index)
        return out


def _dtype(module: nn.Module, default: torch.dtype) -> torch.dtype:
    return next((p.dtype for p in module.parameters()), default)
