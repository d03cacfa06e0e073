"""Every monoid of the package, in the variants that take different paths."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lcm_graph.monoids import (
    BinaryGRU,
    BinaryMLP,
    LogSumExp,
    Max,
    Mean,
    Min,
    Moments,
    Monoid,
    Product,
    Softmax,
    Sum,
    Symmetrized,
    TopK,
)


def tilted(a: Tensor, b: Tensor) -> Tensor:
    """An operator that is a plain function."""
    return torch.tanh(a + 0.5 * a * b - 0.3 * b.square())


class Tilted(nn.Module):
    """An operator with parameters."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lin = nn.Linear(2 * channels, channels)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.tanh(self.lin(torch.cat([a, b], dim=-1)))


MONOIDS: dict[str, Callable[[], Monoid]] = {
    "Sum": lambda: Sum(3),
    "Mean": lambda: Mean(3),
    "Max": lambda: Max(3),
    "Max-fill": lambda: Max(3, fill_value=-7.0),
    "Min": lambda: Min(3),
    "LogSumExp": lambda: LogSumExp(3),
    "Softmax": lambda: Softmax(3, temperature=2.0),
    "Softmax-learned": lambda: Softmax(3, learn=True),
    "Moments": lambda: Moments(3),
    "Moments-unbiased": lambda: Moments(3, ("var", "mean", "std"), unbiased=True),
    "TopK-1": lambda: TopK(3, k=1),
    "TopK-2": lambda: TopK(3, k=2),
    "TopK-3": lambda: TopK(3, k=3),
    "TopK-4": lambda: TopK(3, k=4, fill_value=5.0),
    "TopK-smallest": lambda: TopK(3, k=3, largest=False),
    "BinaryGRU": lambda: BinaryGRU(4),
    "BinaryGRU-1": lambda: BinaryGRU(1),
    "BinaryMLP": lambda: BinaryMLP(4),
    "BinaryMLP-hidden": lambda: BinaryMLP(3, hidden=5),
    "Symmetrized-function": lambda: Symmetrized(tilted, 3),
    "Symmetrized-module": lambda: Symmetrized(Tilted(3), 3),
    "Product-closed": lambda: Product(Sum(3), Max(3), Mean(3)),
    "Product-mixed": lambda: Product(TopK(3, k=2), BinaryGRU(3), LogSumExp(3)),
    "Product-idempotent": lambda: Product(Max(3), Min(3), TopK(3, k=1)),
    "Product-nested": lambda: Product(Product(Sum(3), Softmax(3)), Symmetrized(tilted, 3)),
}
