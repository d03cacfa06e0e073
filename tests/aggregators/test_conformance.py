"""Every aggregation of the package through the conformance suite, and PyG's beside them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch_geometric.nn import aggr as pyg
from torch_geometric.nn.aggr import Aggregation

from lcm_graph.aggregators import (
    LCMAggregation,
    MaxAggregation,
    MeanAggregation,
    MinAggregation,
    MonoidAggregation,
    RecurrentAggregation,
    SumAggregation,
    TopKAggregation,
)
from lcm_graph.monoids import BinaryMLP, Max, Product, Sum, Symmetrized, TopK
from lcm_graph.testing import Check, check_aggregation
from tests.monoids.shipped import MONOIDS, Tilted

IN = 5
INVARIANT: dict[str, Callable[[], Aggregation]] = {
    "Sum": SumAggregation,
    "Sum-channels": lambda: SumAggregation(IN),
    "Mean": MeanAggregation,
    "Max": MaxAggregation,
    "Min": MinAggregation,
    "TopK": lambda: TopKAggregation(IN, k=3),
    "TopK-smallest": lambda: TopKAggregation(IN, k=2, largest=False),
    "Product": lambda: MonoidAggregation(Product(Sum(IN), Max(IN), TopK(IN, 4))),
    "LCM-canonical": lambda: LCMAggregation(IN, 4, order="canonical"),
    "LSTM-canonical": lambda: RecurrentAggregation(IN, 4, "lstm", order="canonical"),
}
ORDERED: dict[str, Callable[[], Aggregation]] = {
    "LCM": lambda: LCMAggregation(IN, 4),
    "LCM-random": lambda: LCMAggregation(IN, 4, order="random"),
    "LCM-plain": lambda: LCMAggregation(IN, IN, project=False),
    "LCM-mlp": lambda: LCMAggregation(IN, 4, operator=BinaryMLP),
    "LCM-own": lambda: LCMAggregation(IN, 4, operator=Symmetrized(Tilted(4), 4)),
    "GRU": lambda: RecurrentAggregation(IN, 4, "gru"),
    "GRU-layers": lambda: RecurrentAggregation(IN, 4, "gru", num_layers=2),
    "LSTM": lambda: RecurrentAggregation(IN, 4, "lstm", order="random"),
    "RNN": lambda: RecurrentAggregation(IN, 4, "rnn"),
}
# The laws of each are checked in tests/monoids; here one of each way through the aggregator.
CHOSEN = (
    "LogSumExp",
    "Softmax-learned",
    "Moments-unbiased",
    "TopK-4",
    "BinaryMLP",
    "Symmetrized-function",
    "Product-mixed",
    "Product-nested",
)


def suite() -> list[object]:
    subjects: list[tuple[str, Aggregation, int, bool]] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        subjects += [(name, make(), IN, True) for name, make in INVARIANT.items()]
        subjects += [(name, make(), IN, False) for name, make in ORDERED.items()]
        for name in CHOSEN:
            monoid = MONOIDS[name]()
            exact = monoid.associative and monoid.commutative
            assert monoid.channels is not None
            subjects.append((f"monoid-{name}", MonoidAggregation(monoid), monoid.channels, exact))
    return [
        pytest.param(check, id=f"{name}-{check}")
        for name, aggregation, channels, exact in subjects
        for check in check_aggregation(aggregation, channels, permutation_invariant=exact)
    ]


@pytest.mark.parametrize("check", suite())
def test_conformance(check: Check) -> None:
    check()


def failures(aggregation: Aggregation) -> set[str]:
    failed = set()
    for check in check_aggregation(aggregation, IN):
        try:
            check()
        except AssertionError:
            failed.add(str(check))
    return failed


PADDED = {
    "batch_invariance",
    "empty_input",
    "empty_sets",
    "leading_dims",
    "ptr_only",
    "unsorted_index",
}
"""What aggregations fail that lay sets out as one dense tensor and lose the mask."""


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        (pyg.SumAggregation(), set()),
        (pyg.MeanAggregation(), set()),
        (pyg.LCMAggregation(IN, 4), PADDED),
        (pyg.GRUAggregation(IN, 4), PADDED),
        (pyg.LSTMAggregation(IN, 4), PADDED),
    ],
    ids=["Sum", "Mean", "LCM", "GRU", "LSTM"],
)
def test_pygs_own(aggregation: Aggregation, expected: set[str]) -> None:
    """The baselines of torch_geometric 2.8.1; ours, above, fail nothing."""
    torch.manual_seed(0)
    aggregation.reset_parameters()
    assert failures(aggregation) == expected
