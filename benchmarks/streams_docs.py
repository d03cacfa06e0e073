"""Put the figures of streams, changes and shards into the page of docs that tells of them.

python -m benchmarks.streams_docs
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.marks import fill_marks, markdown_table
from benchmarks.measure import RESULTS

PAGE = Path(__file__).parent.parent / "docs" / "streams.md"
Result = dict[str, Any]  # what a benchmark wrote


def main() -> None:
    """Rewrite what is between the page's marks."""
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def fill(text: str) -> str:
    """Put the block between the marks ``<!-- benchmark block -->`` and ``<!-- / -->``.

    Raises:
        ValueError: there is no such block.
        OSError: a benchmark has no results.
    """

    def render(name: str, block: str) -> str:
        if (name, block) not in BLOCKS:
            known = ", ".join(" ".join(mark) for mark in BLOCKS)
            raise ValueError(f"a mark must be one of {known} (got '{name} {block}')")
        return BLOCKS[name, block](json.loads((RESULTS / f"{name}.json").read_text("utf-8")))

    return fill_marks(text, render)


def source(result: Result) -> str:
    """The command, and what it ran on."""
    found = result["environment"]
    return (
        f"`{found['command']}` ({found['processor']}, {found['torch_threads']} threads; torch "
        f"{found['torch']}; commit `{found['commit']}`):"
    )


def agreement(result: Result) -> str:
    """Largest relative difference of stream and batch, and what a stream keeps."""
    sizes = [int(n) for n in next(iter(result["agreement"].values()))["float32"]]
    head = ["", *(f"float32, {n:,}" for n in sizes), f"float64, {sizes[-1]:,}", "states", "KiB"]
    rows = [head]
    for name, by in result["agreement"].items():
        last = by["float32"][str(sizes[-1])]
        rows.append(
            [
                f"`{name}`",
                *(f"{by['float32'][str(n)]['difference']:.0e}" for n in sizes),
                f"{by['float64'][str(sizes[-1])]['difference']:.0e}",
                f"{last['states']}",
                f"{last['kibibytes']:.0f}",
            ]
        )
    return markdown_table(rows)


def memory(result: Result) -> str:
    """Peak memory against the number of elements."""
    rows = [["elements", "stream", "all at once"]]
    for n, by in result["peak_bytes"].items():
        mebibytes = (f"{by[way] / 2**20:,.0f} MiB" for way in ("stream", "batch"))
        rows.append([f"{int(n):,}", *mebibytes])
    return markdown_table(rows)


def killed(result: Result) -> str:
    """The long stream, undisturbed and killed twice."""
    rows = [["", "seconds", "elements/s", "memory of the process", "file", "killed after"]]
    for name, one in result["long"].items():
        lives = " and ".join(f"{life:.0f} s" for life in one["killed_after"])
        answer = "same answer" if one["same_answer"] else "another answer"
        rows.append(
            [
                f"`{name}`",
                f"{one['seconds']:.0f}",
                f"{one['elements_per_second']:,.0f}",
                f"{one['peak_mib']:.0f} MiB",
                f"{one['file_kib']:.1f} KiB",
                f"{lives}: {answer}",
            ]
        )
    return markdown_table(rows)


def changes(result: Result) -> str:
    """A change of one edge against folding anew."""
    rows = [["", "changes", "a change and its answer", "all anew", "ratio", "difference"]]
    for name, one in result["monoids"].items():
        rows.append(
            [
                f"`{name}`",
                f"{one['changes']:,}",
                f"{one['change_seconds'] * 1e3:.1f} ms",
                f"{one['anew_seconds'] * 1e3:,.0f} ms",
                f"{one['times_faster']:,.0f}×",
                f"{one['largest_difference']:.0e}",
            ]
        )
    return markdown_table(rows)


def processes(result: Result) -> str:
    """Several processes against one."""
    rows = [["", "shares", "processes", "dtype", "values", "gradients", "merged set by set"]]
    for one in result["compared"]:
        rows.append(
            [
                f"`{one['monoid']}`",
                one["share"],
                f"{one['processes']}",
                one["dtype"].removeprefix("torch."),
                *(f"{one[what]:.0e}" for what in ("values", "gradients", "merged_apart")),
            ]
        )
    return markdown_table(rows)


def lost(result: Result) -> str:
    """What is said when a process is killed, and when."""
    return "\n".join(
        f"- One of {world} processes killed: the others were told after {one['seconds']:.1f} s."
        for world, one in result["lost"].items()
    )


BLOCKS: dict[tuple[str, str], Callable[[Result], str]] = {
    ("streams", "source"): source,
    ("streams", "agreement"): agreement,
    ("streams", "memory"): memory,
    ("streams", "killed"): killed,
    ("dynamic_graph", "source"): source,
    ("dynamic_graph", "changes"): changes,
    ("shards", "source"): source,
    ("shards", "processes"): processes,
    ("shards", "lost"): lost,
}


if __name__ == "__main__":
    main()
