"""The page of streams says what the benchmarks' files say."""

from __future__ import annotations

import re

import pytest

from benchmarks.streams_docs import PAGE, fill


def test_the_page_is_filled_from_the_files() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert fill(text) == text, "run python -m benchmarks.streams_docs"


def test_what_stands_between_marks_is_replaced() -> None:
    text = PAGE.read_text(encoding="utf-8")
    spoilt = re.sub(r"\| \d+ MiB \|", "| 7 MiB |", text)
    assert spoilt != text and fill(spoilt) == text


def test_unknown_marks() -> None:
    with pytest.raises(ValueError, match="got 'streams tables'"):
        fill("<!-- streams tables -->\n<!-- / -->\n")
