"""The pages say what the comparisons' files say."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import real_graphs
from benchmarks.real_graphs import (
    METRICS,
    PAGES,
    Metric,
    clearly_best,
    costs,
    draw_larger,
    fill,
    larger,
    scores,
    table,
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_filled_from_the_files(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert fill(text) == text, "run python -m benchmarks.real_graphs"


def test_what_stands_between_marks_is_replaced() -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    spoilt = re.sub(r"\| \d\d\.\d \|", "| 0.0 |", text)
    assert spoilt != text and fill(spoilt) == text


@pytest.mark.parametrize("mark", ["molhif table", "reddit tables"])
def test_unknown_marks(mark: str) -> None:
    name, block = mark.split()
    with pytest.raises(ValueError, match=f"got '{name}' and '{block}'"):
        fill(f"<!-- {mark} -->\n<!-- / -->\n")


@pytest.mark.parametrize(
    ("scores", "maximize", "best"),
    [
        ({"a": [1.0, 1.2], "b": [0.5, 0.7]}, True, "a"),
        ({"a": [1.0, 1.2], "b": [0.5, 0.7]}, False, "b"),
        ({"a": [1.0, 1.2], "b": [0.9, 1.1]}, True, None),  # a lead of 0.1, a standard error of 0.14
        ({"a": [1.0, 1.2], "b": [0.1, 0.2], "c": [0.9, 1.25]}, True, None),
        ({"a": [1.0], "b": [0.1, 0.2]}, True, None),  # one run has no standard error
        ({"a": [1.0, 1.0], "b": [1.0, 1.0]}, True, None),
        ({"a": [0.1, 0.2]}, True, None),  # nobody to lead
        ({}, True, None),
    ],
)
def test_what_is_bold(scores: dict[str, list[float]], maximize: bool, best: str | None) -> None:
    assert clearly_best(scores, Metric("score", maximize)) == best


def comparison(*larger_errors: float | None) -> dict[str, Any]:
    runs = [{"larger": {"20-24": -1.0, "95-99": error}} for error in larger_errors]
    return {"results": {"runs": {"sum": runs, "lcm": [{"failed": "no memory"}]}}}


def test_larger_graphs(tmp_path: Path) -> None:
    """Medians of the runs that did not fail; what is no number ends the line."""
    some = comparison(None, 2.0, 1.0)
    assert "| `sum` | -1.00 | 2.00 |" in larger(some, METRICS["pna_multitask"])
    most = comparison(None, None, 1.0)
    assert "| `sum` | -1.00 | inf |" in larger(most, METRICS["pna_multitask"])
    draw_larger(most, tmp_path / "larger.png")
    assert (tmp_path / "larger.png").stat().st_size > 1000


def test_failures_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(real_graphs, "RESULTS", tmp_path)
    (tmp_path / "reddit").mkdir()
    (tmp_path / "reddit" / "results.json").write_text(json.dumps(comparison(math.pi)))
    filled = fill("<!-- reddit failures -->\n<!-- / -->\n")
    assert "lcm: no memory" in filled and "sum" not in filled


def run(test: float, valid: float = 0.5, seconds: float = 1.0) -> dict[str, Any]:
    return {
        "test": test,
        "valid": valid,
        "parameters": 1234,
        "seconds_per_epoch": seconds,
        "step_mib": 7.0,
    }


def test_a_table_by_hand() -> None:
    """Columns in their places; what failed is counted, and nothing is bold beside it."""
    runs = {"sum": [run(0.7, 0.6), run(0.72, 0.62)], "lcm": [run(0.9, 0.8, 4), run(0.92, 0.8, 6)]}
    rows = table({"results": {"runs": runs}}, METRICS["reddit"]).splitlines()
    assert rows[0] == "|  | test accuracy | validation | parameters | s/epoch | MiB/step |"
    assert rows[2] == "| `sum` | 0.710 ± 0.014 | 0.610 ± 0.014 | 1,234 | 1.0 | 7 |"
    assert rows[3] == "| `lcm` | **0.910 ± 0.014** | 0.800 ± 0.000 | 1,234 | 4.0 | 7 |"
    runs["lcm"].append({"failed": "loss is nan"})
    assert "| `lcm` (2 of 3) | 0.910 ± 0.014 |" in table(
        {"results": {"runs": runs}}, METRICS["reddit"]
    )


def test_what_failed_throughout_is_told_and_leaves_nothing_bold() -> None:
    runs = {"sum": [run(0.7), run(0.72)], "mean": [run(0.9), run(0.92)]}
    some = {"results": {"runs": runs | {"lcm": [{"failed": "no memory"}] * 2}}}
    rows = table(some, METRICS["reddit"]).splitlines()
    assert "**" in table({"results": {"runs": runs}}, METRICS["reddit"])
    assert rows[3].startswith("| `mean` | 0.910 ±")
    assert rows[4] == "| `lcm` | failed | – | – | – | – |"


def test_overviews() -> None:
    def some(**runs: list[dict[str, Any]]) -> dict[str, Any]:
        return {"results": {"runs": runs}}

    faster, slower = [run(0.7, seconds=1)] * 2, [run(0.9, seconds=3), run(0.91, seconds=3)]
    comparisons = {"reddit": some(sum=faster, lcm=slower), "molesol": some(sum=[run(1.0)] * 2)}
    by_score = scores(comparisons).splitlines()
    assert by_score[2:] == ["| `sum` | 0.700 | 1.000 |", "| `lcm` | **0.905** | – |"]
    assert costs(comparisons).splitlines()[3] == "| `lcm` | 3.0× / 1.0× | – |"
    comparisons["reddit"]["results"]["runs"]["lcm"].append({"failed": "loss is nan"})
    comparisons["molesol"]["results"]["runs"]["lcm"] = [{"failed": "no memory"}]
    assert scores(comparisons).splitlines()[3] == "| `lcm` | 0.905 | failed |"
    assert costs(comparisons).splitlines()[3] == "| `lcm` | 3.0× / 1.0× | failed |"
