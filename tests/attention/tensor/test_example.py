"""The example of tasks for three tokens."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parents[3] / "examples" / "attention" / "match3.py"


def test_smoke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It runs, and again from what it has kept."""
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)  # it would stay so
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--smoke", "--out", str(tmp_path)])
    written = []
    for _ in range(2):
        runpy.run_path(str(SCRIPT), run_name="__main__")
        written.append({path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*")})
    assert written[0] == written[1] and len(written[0]) == 8
    found = json.loads((tmp_path / "results.json").read_text())["results"]
    standard, strassen = (
        found[f"match3--{form}--0"]["parameters"] for form in ("standard", "strassen")
    )
    assert abs(standard / strassen - 1) <= 0.005
    assert (tmp_path / "match3.png").exists() and (tmp_path / "composition.png").exists()
    assert "best constant" in capsys.readouterr().out


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def test_match3_labels(example: dict[str, Any]) -> None:
    """Against all triples; in none is one token counted twice."""
    task = example["Match3"](25, 4, 8)
    for size in (3, 9):
        x, y = task.draw(20, size, torch.Generator().manual_seed(0))
        for own, labels in zip(x.tolist(), y.tolist(), strict=True):
            for i in range(size):
                triples = [
                    {i, j, k}
                    for j in range(size)
                    for k in range(size)
                    if (own[i] + own[j] + own[k]) % 37 == 0
                ]
                assert labels[i] == bool(triples)
                assert all(len(triple) == 3 for triple in triples)
    _, y = task.draw(2000, 9, torch.Generator().manual_seed(0))
    assert 0.45 <= y.double().mean() <= 0.55


def test_compositions(example: dict[str, Any]) -> None:
    task = example["Composition"](25, 4, 8)
    x, y = task.draw(20, 8, torch.Generator().manual_seed(0))
    for own, labels in zip(x.tolist(), y.tolist(), strict=True):
        f, g, asked = own[:8], own[8:16], own[16:]
        assert labels == [g[f[one]] for one in asked]


@pytest.mark.parametrize("form", ["standard", "rank1", "trilinear", "strassen"])
def test_questions_see_no_questions(example: dict[str, Any], form: str) -> None:
    """So that all are answered at once; and sets have no order."""
    torch.manual_seed(0)
    task = example["Composition"](25, 4, 8)
    model = example["OneLayer"](form, task)
    x = task.sets["test"][0]
    other = torch.cat([x[:, :17], (x[:, 17:] + 1) % 8], 1)
    assert torch.allclose(model(x)[:, 0], model(other)[:, 0], atol=1e-6)
    task = example["Match3"](25, 4, 8)
    model, x = example["OneLayer"](form, task), task.sets["test"][0]
    assert torch.allclose(model(x.flip(1)), model(x).flip(1), atol=1e-5)
