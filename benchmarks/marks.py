"""Fill the places of a page that are marked for figures."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

NOT_MEASURED = "*Not measured yet.*"

_MARKED = re.compile(r"(<!-- (\S+) (\S+) -->\n).*?(<!-- / -->)", re.DOTALL)


def fill_marks(text: str, render: Callable[[str, str], str | None]) -> str:
    """Put ``render(name, block)`` between ``<!-- name block -->`` and ``<!-- / -->``.

    What gives None stays as it is.
    """

    def replace(found: re.Match[str]) -> str:
        filled = render(found[2], found[3])
        return found[0] if filled is None else f"{found[1]}\n{filled}\n\n{found[4]}"

    return _MARKED.sub(replace, text)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown: the first row its head, the first column to the left."""
    rule = ["---", *["---:"] * (len(rows[0]) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], rule, *rows[1:]])
