"""The benchmarks of attention run."""

from __future__ import annotations

import sys

import pytest
import torch

from benchmarks import limit, long_attention, prefixes, selection


@pytest.mark.parametrize(
    ("module", "shown"),
    [
        (selection, "clusters, summary"),
        (long_attention, "hyper, causal, gradient"),
        (limit, "the paper's fit"),
        (prefixes, "elu, learned"),
    ],
    ids=["selection", "long", "limit", "prefixes"],
)
def test_smoke(
    module: object, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", "--smoke"])
    module.main()  # type: ignore[attr-defined]
    assert shown in capsys.readouterr().out


def test_exponents() -> None:
    assert long_attention.exponent({n: 3e-9 * n**2 for n in (1, 2, 4, 8)}) == pytest.approx(2)


def test_all_pairs_right() -> None:
    pairs = torch.combinations(torch.arange(3))
    assert limit.all_right(torch.tensor([[2.0, 1, 0], [3, 0, 1], [0, 5, 5]]), pairs)
    assert not limit.all_right(torch.tensor([[2.0, 1, 1], [3, 0, 1], [0, 5, 5]]), pairs)  # a tie


def test_four_numbers_tell_all_pairs_apart() -> None:
    assert limit.constructed(60, torch.float64)
    assert not limit.constructed(400, torch.float32)


def test_critical_is_what_training_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def trained(kind: str, items: int, channels: int, steps: int, seed: int) -> bool:
        asked.append(items)
        return items <= 21 and seed == 1

    monkeypatch.setattr(limit, "trained", trained)
    found = limit.critical("free", 4, 100, restarts=2, most=64)
    assert found["critical"] == 21 and found["tried"]["22"] is False
    assert len(asked) == len(set(asked)) * 2  # each once by either restart
    assert limit.critical("free", 4, 100, restarts=2, most=16)["critical"] == 16
