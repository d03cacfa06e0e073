"""The benchmark of tensor attention."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import tensor_attention


def test_smoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs, and errors are within their bounds."""
    out = tmp_path / "tensor_attention.json"
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)  # it would stay so
    monkeypatch.setattr(sys, "argv", ["tensor_attention", "--smoke", "--out", str(out)])
    tensor_attention.main()
    found = json.loads(out.read_text())
    assert len(found["errors"]) == 16 and len(found["times"]) == 8
    for row in found["errors"]:
        assert row["out"] <= row["out_bound"] + 1e-14
        assert row["lse"] <= row["lse_bound"] + 1e-14
        assert row["out_median"] <= row["out"]
    (asked,) = (row for row in found["errors"] if (row["entries"], row["degree"]) == (1, 6))
    assert asked["out"] <= 2e-9


def test_exponents() -> None:
    assert tensor_attention.slope([1, 2, 4, 8], [3, 24, 192, 1536]) == pytest.approx(3)
