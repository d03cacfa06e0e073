"""The page says what the studies' files say."""

from __future__ import annotations

import re

import pytest

from benchmarks.unbounded_sets import PAGE, fill

TEXT = PAGE.read_text(encoding="utf-8")


def test_page_is_filled_from_the_files() -> None:
    assert fill(TEXT) == TEXT, "run python -m benchmarks.unbounded_sets"


def test_what_stands_between_marks_is_replaced() -> None:
    spoilt = re.sub(r"\| 1\.000 ± 0\.000", "| 0.123", TEXT)
    assert spoilt != TEXT and fill(spoilt) == TEXT


@pytest.mark.parametrize("mark", ["far66 source", "far16 sauce"])
def test_unknown_marks(mark: str) -> None:
    name, block = mark.split()
    with pytest.raises(ValueError, match=f"got '{name}' and '{block}'"):
        fill(f"<!-- {mark} -->\n<!-- / -->\n")
