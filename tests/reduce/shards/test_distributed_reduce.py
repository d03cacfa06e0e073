"""Several processes against one: values, gradients, and what happens when one is lost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from lcm_graph.monoids import Sum
from lcm_graph.reduce import distributed_reduce, segment_reduce
from tests.processes import run, start
from tests.reduce.shards import cases
from tests.references import error

CASES = "tests.reduce.shards.cases"


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("share", cases.SHARES)
def test_values_and_gradients(share: str, world: int, tmp_path: Path) -> None:
    """Of all monoids, on random cotangents, a different one on each rank."""
    sizes = cases.SHARES[share][world // 4]
    names = list(cases.MONOIDS)
    found = run(CASES, "shares", world, tmp_path, names, sizes)
    for name in names:
        expected = cases.whole(name, sizes)
        ranks = [by_name[name] for by_name in found]
        for one in ranks:
            assert error(one["out"], expected["out"]) <= 1e-12
        # Of its own elements a rank knows the gradient, of the others nothing.
        known = [r["x"] for r in ranks if r["x"] is not None]
        assert error(torch.stack(known).sum(0), expected["x"]) <= 1e-12
        for place, weight in enumerate(expected["weights"]):
            parts = [r["weights"][place] for r in ranks if r["weights"][place] is not None]
            if weight is None:
                assert not any(part.any() for part in parts)
            else:
                assert error(torch.stack(parts).sum(0), weight) <= 1e-12


@pytest.mark.parametrize("world", [1, 2])
def test_second_derivatives(world: int, tmp_path: Path) -> None:
    """Which are collective operations too."""
    found = run(CASES, "derivatives", world, tmp_path, world)
    for name in found[0]:
        expected = cases.derivatives_of_one(name, world)
        for what in ("first", "second"):
            total = sum(one[name][what] for one in found)
            assert error(total, expected[what]) <= 1e-11


def test_mistakes_are_told_on_all_ranks(tmp_path: Path) -> None:
    began = time.monotonic()
    mine, others = run(CASES, "mistakes", 2, tmp_path)
    assert time.monotonic() - began < 25  # nobody waits for the timeout of 30 seconds
    assert "'index' must not be negative" in mine[0] and "on ranks [0]" in others[0]
    assert "'plan' is for 3 elements" in mine[1] and "on ranks [0]" in others[1]
    assert "of canonical trees" in mine[2] and "on ranks [0]" in others[2]
    assert "rank 0 has Sum(4)" in mine[3] and "rank 1 has Product" in others[3]
    assert all("ranks [0] are under torch.no_grad()" in one[4] for one in (mine, others))
    assert all(one[5] == "RuntimeError: no" for one in (mine, others))  # the operator's own
    assert mine[6] == others[6] == "6.0"


def test_ways_to_call_it(tmp_path: Path) -> None:
    found = run(CASES, "ways", 2, tmp_path)
    monoid, x, index, _ = cases.make("gru", 61)
    with torch.no_grad():
        expected = segment_reduce(monoid, monoid.lift(x), index, dim_size=9).value
    for rank, one in enumerate(found):
        assert error(one["plain"], expected[:5]) <= 1e-12
        assert error(one["all"], expected) <= 1e-12
        assert error(one["mesh"], expected[:5]) <= 1e-12
        assert error(one["plan"], expected[:6]) <= 1e-12
        assert error(one["gathered"], expected[:6]) <= 1e-12
        assert error(one["one set"], x.sum(0, keepdim=True)) <= 1e-12
        assert "of one kind: rank" in one["error"]
        if rank == 0:
            assert one["gradient"] is None
        else:  # the sum of both ranks' losses
            assert (one["gradient"][20:] == 2).all() and (one["gradient"][:20] == 0).all()


@pytest.mark.parametrize("case", ["killed", "killed_before_backward"])
def test_a_rank_that_is_killed(case: str, tmp_path: Path) -> None:
    """The others are told within a minute."""
    began = time.monotonic()
    processes = start(CASES, case, 2, tmp_path)
    said = processes[0].communicate(timeout=120)[1].decode()
    processes[1].communicate(timeout=120)
    assert time.monotonic() - began < 60
    assert processes[0].returncode == 3 and "rank 0 of 2: another process has ended" in said


def test_without_a_group() -> None:
    with pytest.raises(RuntimeError, match="init_process_group"):
        distributed_reduce(Sum(1), torch.ones(1, 1))
