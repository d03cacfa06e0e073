"""Both ways in which a Binary-GRU is folded."""

from __future__ import annotations

import pytest

from lcm_graph.monoids import BinaryGRU
from tests.references import GeneralGRU


@pytest.fixture(params=[BinaryGRU, GeneralGRU], ids=["kernel", "general"])
def make_gru(request: pytest.FixtureRequest) -> type[BinaryGRU]:
    made: type[BinaryGRU] = request.param
    return made
