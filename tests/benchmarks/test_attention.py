"""The benchmarks of attention run."""

from __future__ import annotations

import sys

import pytest

from benchmarks import long_attention, selection


@pytest.mark.parametrize(
    ("module", "shown"),
    [(selection, "clusters, summary"), (long_attention, "hyper, causal, gradient")],
    ids=["selection", "long"],
)
def test_smoke(
    module: object, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", "--smoke"])
    module.main()  # type: ignore[attr-defined]
    assert shown in capsys.readouterr().out


def test_exponents() -> None:
    assert long_attention.exponent({n: 3e-9 * n**2 for n in (1, 2, 4, 8)}) == pytest.approx(2)
