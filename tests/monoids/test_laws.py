"""Every monoid of the package through the conformance suite."""

from __future__ import annotations

import pytest
import torch

from lcm_graph.testing import Check, check_monoid
from tests.monoids.shipped import MONOIDS


def suite() -> list[object]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [
            pytest.param(check, id=f"{name}-{check}")
            for name, make in MONOIDS.items()
            for check in check_monoid(make())
        ]


@pytest.mark.parametrize("check", suite())
def test_conformance(check: Check) -> None:
    check()


@pytest.mark.parametrize("name", ["Sum", "Max", "TopK-3", "BinaryGRU", "Symmetrized-module"])
@pytest.mark.parametrize("law", ["identity_left", "identity_right", "commutative"])
def test_exact_laws_in_single_precision(name: str, law: str) -> None:
    checks = {str(c): c for c in check_monoid(MONOIDS[name](), dtype=torch.float32, seed=3)}
    checks[law]()
