"""The page of attention says what the benchmarks' files say, and names what there is."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import torch.nn.functional as F

from benchmarks import attention_docs
from benchmarks.attention_docs import PAGE, fill, three_tokens
from tests.references import error

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_page_is_filled_from_the_files() -> None:
    assert fill(TEXT) == TEXT, "run python -m benchmarks.attention_docs"


def test_the_code_of_the_page_runs() -> None:
    """Block after block, as one reads it."""
    blocks = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), names)
    q, k, v, whole = (names[name] for name in ("q", "k", "v", "whole"))
    expected = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)  # type: ignore[arg-type]
    assert error(whole.out, expected) <= 1e-5  # type: ignore[attr-defined]


def test_what_stands_between_marks_is_replaced() -> None:
    spoilt = re.sub(r"\| \d\.\d\d \|", "| 7.77 |", TEXT)
    assert spoilt != TEXT and fill(spoilt) == TEXT


def test_what_is_not_measured_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(attention_docs, "RESULTS", tmp_path)
    filled = fill("<!-- limit critical -->\n<!-- / -->\n")
    assert filled == "<!-- limit critical -->\n\n*Not measured yet.*\n\n<!-- / -->\n"


def test_a_table_of_tasks() -> None:
    runs = {
        "sums--standard--0": {"test": 0.5},
        "sums--standard--1": {"test": 0.7},
        "sums--strassen--0": {"test": 0.9},
        "sums--baselines": {"constant": 0.25},
    }
    settings = {"tasks": ["sums"], "forms": ["standard", "strassen"]}
    assert three_tokens({"results": runs, "settings": settings}).splitlines() == [
        "|  | sums |",
        "| --- | ---: |",
        "| `standard` | 0.600 ± 0.141 |",
        "| `strassen` | 0.900 |",
        "| constant | 0.250 |",
    ]


def test_unknown_marks() -> None:
    with pytest.raises(ValueError, match="got 'limit tables'"):
        fill("<!-- limit tables -->\n<!-- / -->\n")


def test_the_table_of_systems_names_what_there_is() -> None:
    """Its second column: a room and a name in it, or names of the same room that follow."""
    rows = re.findall(r"^\|[^|]*\|([^|]*)\|", TEXT.split("## ")[0], re.MULTILINE)[2:]
    assert len(rows) > 10
    for row in rows:
        room = "lcm_graph.attention"
        for name in re.findall(r"`([\w.]+)[^`]*`", row):
            if name == "method":  # a keyword of the row above
                continue
            *rooms, last = name.split(".")
            if rooms:
                room = ".".join(["lcm_graph.attention", *rooms])
            assert hasattr(importlib.import_module(room), last), name
