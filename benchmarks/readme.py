"""Put the measured figures into README.md, between its ``figures`` marks.

python -m benchmarks.readme
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS

README = Path(__file__).parent.parent / "README.md"
_MARKS = re.compile(r"(<!-- figures -->\n).*?(<!-- /figures -->)", re.DOTALL)
_NAMES = {"lcm": "LCM", "gru": "GRU"}
_MODES = {"forward": "forward", "forward_backward": "forward + backward"}


def main() -> None:
    """Rewrite the part of the README between the marks."""
    parts = [
        render(json.loads(path.read_text(encoding="utf-8")))
        for name, render in (
            ("aggregators", aggregators),
            ("speed_equal", equal),
            ("speed_profile", profile),
            ("speed_layer", layer),
            ("speed_growth", growth),
            ("closed_forms", closed_forms),
            ("invariance", invariance),
        )
        if (path := RESULTS / f"{name}.json").exists()
    ]
    text = README.read_text(encoding="utf-8")
    filled = "\n".join(parts)
    README.write_text(_MARKS.sub(lambda m: f"{m[1]}{filled}{m[2]}", text), encoding="utf-8")


def aggregators(result: dict[str, Any]) -> str:
    """Time and peak memory of every case."""
    rows = [
        "| | | time | PyG's (÷ ours) | peak memory | PyG's (÷ ours) | of input |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for case in result["cases"].values():
        for name, label in _NAMES.items():
            for mode, mode_label in _MODES.items():
                ours = case["aggregators"][name][mode]
                theirs = case["aggregators"].get(f"{name}_pyg", {}).get(mode)
                cells = [
                    case["description"],
                    f"{label}, {mode_label}",
                    _seconds(ours),
                    _theirs(theirs, _seconds, ours.get("times_faster_than_pyg")),
                    _mebibytes(ours),
                    _theirs(theirs, _mebibytes, ours.get("times_smaller_than_pyg")),
                    "-" if ours["peak_per_input"] is None else f"{ours['peak_per_input']:.1f}×",
                ]
                rows.append(f"| {' | '.join(cells)} |")
    lines = [
        "Median time, and growth of memory beyond the input, of elements of "
        f"{result['settings']['channels']} float32 features ({_where(result)}):",
        "",
        *rows,
        "",
    ]
    whole = result["cases"].get("c")
    if whole is not None:
        lines += [
            f"PyG would pad all of the Debian graph to {whole['padded_bytes'] / 1e9:,.0f} GB, for "
            f"{whole['input_bytes'] / 1e6:,.0f} MB of elements, and answers:",
            "",
            "```text",
            whole["pyg_error"],
            "```",
            "",
        ]
    return "\n".join(lines)


def equal(result: dict[str, Any]) -> str:
    """The fold on sets of one size."""
    lines = [
        f"The fold with a `BinaryGRU` on CPU, sets of one size ({_where(result)}):",
        "",
        "| | ours | compiled | PyG's LCM (÷ ours, ÷ compiled) | PyG's GRU (÷ ours, ÷ compiled) |",
        "|---|---:|---:|---:|---:|",
    ]
    for case in result["equal"]:
        seconds, faster = case["seconds"], case["times_faster"]
        cells = [
            f"{case['sets']:,} × {case['size']}, d = {case['channels']}, {_MODES[case['mode']]}",
            *(f"{seconds[n]['median'] * 1e3:,.0f} ms" for n in ("ours", "ours, compiled")),
        ]
        for peer in ("PyG LCM", "PyG GRU"):
            cells.append(
                f"{seconds[peer]['median'] * 1e3:,.0f} ms "
                f"({faster[peer]['ours']:.1f}×, {faster[peer]['compiled']:.1f}×)"
            )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def profile(result: dict[str, Any]) -> str:
    """How far from the machine's matrix products."""
    lines = []
    for case in result["profile"]:
        share, by = case["of_bound"], case["eager_shares"]
        rest = ", ".join(f"{kind} {part:.0%}" for kind, part in by.items())
        lines.append(
            f"- d = {case['channels']}, {_MODES[case['mode']]}: {share['eager']:.0%}, compiled "
            f"{share['compiled']:.0%}, of {case['gemm_gflops']:.0f} GFLOP/s ({rest})."
        )
    return "\n".join(
        [
            "Of the time that the machine's own matrix products allow (8 d² multiply-adds a pair, "
            f"24 with the gradient; 8,192 sets of 16; {_where(result)}):",
            "",
            *lines,
            "",
        ]
    )


def layer(result: dict[str, Any]) -> str:
    """A layer on a graph."""
    lines = [
        f"A SAGE layer with `LCMAggregation` on all of the Debian graph ({_where(result)}):",
        "",
        "| | in place | with messages | peak in place | peak with messages |",
        "|---|---:|---:|---:|---:|",
    ]
    for case in result["layer"]:
        seconds, peak = case["seconds"], case["peak_bytes"]
        cells = [f"d = {case['channels']}, {_MODES[case['mode']]}"]
        cells += [f"{seconds[n]['median'] * 1e3:,.0f} ms" for n in ("in place", "messages")]
        cells[-1] += f" ({case['times_faster_in_place']:.1f}×)"
        cells += [f"{peak[n] / 2**20:,.0f} MiB" for n in ("in place", "messages")]
        cells[-1] += f" ({1 / case['peak_in_place_over_messages']:.1f}×)"
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def growth(result: dict[str, Any]) -> str:
    """Time against size."""
    found = result["growth"]
    many, one = found["elements_exponent"], found["one_set_exponent"]
    first, *_, last = found["elements"]
    largest = found["one_set"][-1]
    return (
        f"Time grows with the number of elements to the power {many['forward']} (forward) and "
        f"{many['forward_backward']} (forward + backward) from {first['elements']:,} to "
        f"{last['elements']:,} in sets of 16, and with the size of one set to the power "
        f"{one['forward']} and {one['forward_backward']}; a set of {largest['size']:,} has "
        f"{largest['depth']} levels.\n"
    )


def closed_forms(result: dict[str, Any]) -> str:
    """How many times as long as ours the quickest other implementation takes."""
    orders = ("sorted", "unsorted", "gathered")
    version = result["settings"]["torch_scatter"]
    peers = "torch's own" + ("" if version is None else f" and torch-scatter {version}'s")
    lines = [
        f"Closed forms with a plan made before: the quickest of {peers} takes so many times as "
        "long, forward and forward + backward (`benchmarks.closed_forms`):",
        "",
        f"| | {' | '.join(orders)} |",
        "|---|---:|---:|---:|",
    ]
    for case in result["cases"].values():
        for form, by_order in case["forms"].items():
            cells = [f"{case['description']}, {form}"]
            cells += [
                ", ".join(f"{by_order[order][mode]['times_faster']:.2f}×" for mode in _MODES)
                for order in orders
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def invariance(result: dict[str, Any]) -> str:
    """How much the answer of a set differs when it is alone."""
    settings = result["settings"]
    rows = [
        f"| {name} | {by['lcm_graph']['largest']:.0e} | {by['PyG']['largest']:.1g} |"
        for name, by in result["relative_difference"].items()
    ]
    return "\n".join(
        [
            f"Largest relative difference of {settings['sets']:,} sets of 1 to "
            f"{settings['largest']}, each alone or all in one batch with a set of "
            f"{settings['batch_mate']:,}:",
            "",
            "| | lcm_graph | PyG |",
            "|---|---:|---:|",
            *rows,
            "",
        ]
    )


def _seconds(figures: dict[str, Any]) -> str:
    if figures["seconds"] is None:
        return _missing(figures)
    median = figures["seconds"]["median"]
    return f"{median * 1e3:,.0f} ms" if median < 10 else f"{median:,.0f} s"


def _mebibytes(figures: dict[str, Any]) -> str:
    peak = figures["peak_bytes"]
    return _missing(figures) if peak is None else f"{peak / 2**20:,.0f} MiB"


def _missing(figures: dict[str, Any]) -> str:
    return str(figures["missing"]).split(":")[0]


def _theirs(figures: dict[str, Any] | None, show: Any, ratio: float | None) -> str:
    if figures is None:
        return "-"
    return str(show(figures)) + ("" if ratio is None else f" ({_short(ratio)}×)")


def _where(result: dict[str, Any]) -> str:
    found = result["environment"]
    return (
        f"{found['processor']}, {found['torch_threads']} threads; torch {found['torch']}, "
        f"torch_geometric {found['torch_geometric']}; commit `{found['commit']}`"
    )


def _short(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.1f}"


if __name__ == "__main__":
    main()
