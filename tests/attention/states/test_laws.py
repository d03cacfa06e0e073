"""The monoids of attention through the conformance suite."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lcm_graph.attention import ClusterSummary, LinearAttention, SoftmaxAttention, TopMemory
from lcm_graph.monoids import Monoid
from lcm_graph.testing import Check, check_monoid

MONOIDS: dict[str, Callable[[], Monoid]] = {
    "SoftmaxAttention": lambda: SoftmaxAttention(3),
    "SoftmaxAttention-heads": lambda: SoftmaxAttention(3, shape=(2, 2)),
    "LinearAttention": lambda: LinearAttention(4, 3),
    "ClusterSummary": lambda: ClusterSummary(4, 3),
    "ClusterSummary-2": lambda: ClusterSummary(2, 3, order=2),
    "TopMemory-1": lambda: TopMemory(3, budget=1),
    "TopMemory-5": lambda: TopMemory(3, budget=5),
}


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, id=f"{name}-{check}")
        for name, make in MONOIDS.items()
        for check in check_monoid(make())
    ],
)
def test_conformance(check: Check) -> None:
    check()
