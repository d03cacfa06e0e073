"""Every monoid of the package, in the variants that take different paths."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lcm_graph.monoids import (
    AbelianGroup,
    BinaryGRU,
    BinaryLSTM,
    BinaryMLP,
    Fishnets,
    FourierProduct,
    GatedLattice,
    GeneralizedMean,
    KeyedTopK,
    Lattice,
    Lifted,
    LogSumExp,
    Max,
    Mean,
    Min,
    Moments,
    Monoid,
    Normalized,
    PairAttention,
    Product,
    Rotation,
    SlotSelection,
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


def snapped(channels: int, orders: tuple[int, ...]) -> Rotation:
    """Clocks that have found their orders."""
    monoid = Rotation(channels, clocks=len(orders))
    with torch.no_grad():
        for clock, order in enumerate(orders):
            steps = torch.arange(1, channels + 1)
            monoid.weight[clock] = (steps / order + 0.5) % 1 - 0.5 + 0.0003
    return monoid


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
    "AbelianGroup": lambda: AbelianGroup(4),
    "AbelianGroup-odd": lambda: AbelianGroup(3, layers=3, hidden=5),
    "AbelianGroup-1": lambda: AbelianGroup(1),
    "GeneralizedMean": lambda: GeneralizedMean(3),
    "GeneralizedMean-1": lambda: GeneralizedMean(1, hidden=1),
    "FourierProduct": lambda: FourierProduct(3),
    "FourierProduct-odd": lambda: FourierProduct(2, size=5),
    "FourierProduct-1": lambda: FourierProduct(1, size=1),
    "Fishnets": lambda: Fishnets(3),
    "Fishnets-1": lambda: Fishnets(2, dim=1),
    "Lattice": lambda: Lattice(4),
    "Lattice-1": lambda: Lattice(1),
    "BinaryGRU": lambda: BinaryGRU(4),
    "BinaryGRU-1": lambda: BinaryGRU(1),
    "BinaryMLP": lambda: BinaryMLP(4),
    "BinaryMLP-hidden": lambda: BinaryMLP(3, hidden=5),
    "BinaryLSTM": lambda: BinaryLSTM(3),
    "BinaryLSTM-1": lambda: BinaryLSTM(1),
    "GatedLattice": lambda: GatedLattice(3),
    "GatedLattice-correction": lambda: GatedLattice(3, correction=True),
    "PairAttention": lambda: PairAttention(4, heads=2, hidden=3),
    "PairAttention-heads": lambda: PairAttention(3, heads=3),
    "SlotSelection": lambda: SlotSelection(4, slots=2, hidden=3),
    "SlotSelection-1": lambda: SlotSelection(3, slots=1),
    "Normalized": lambda: Normalized(BinaryGRU(4)),
    "Normalized-gain": lambda: Normalized(BinaryLSTM(2), gain=True),
    "Normalized-function": lambda: Normalized(Symmetrized(tilted, 3)),
    "Symmetrized-function": lambda: Symmetrized(tilted, 3),
    "Symmetrized-module": lambda: Symmetrized(Tilted(3), 3),
    "Rotation": lambda: Rotation(3, clocks=5),
    "Rotation-snapped": lambda: snapped(3, (2, 7, 10)),
    "KeyedTopK": lambda: KeyedTopK(3),
    "KeyedTopK-heads": lambda: KeyedTopK(3, k=3, heads=2, spare=0),
    "Lifted": lambda: Lifted(nn.Linear(2, 3), TopK(3, k=2), channels=2),
    "Lifted-learned": lambda: Lifted(nn.Linear(2, 3), BinaryGRU(3), channels=2),
    "Product-closed": lambda: Product(Sum(3), Max(3), Mean(3)),
    "Product-mixed": lambda: Product(TopK(3, k=2), BinaryGRU(3), LogSumExp(3)),
    "Product-idempotent": lambda: Product(Max(3), Min(3), TopK(3, k=1)),
    "Product-learned": lambda: Product(GatedLattice(2), Normalized(BinaryLSTM(2))),
    "Product-exact": lambda: Product(AbelianGroup(2), Fishnets(2), Lattice(2), FourierProduct(2)),
    "Product-nested": lambda: Product(Product(Sum(3), Softmax(3)), Symmetrized(tilted, 3)),
}
