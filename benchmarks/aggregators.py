"""Time and peak memory of LCM and GRU aggregation, ours against PyG's.

    python -m benchmarks.aggregators [--data ROOT] [--cases a b c] [--quick]

(a) 8,192 sets of 16; (b) a sample of the dependency graph of Debian that PyG can still pad; (c)
all of it, ours alone. ``ROOT`` (or $LCM_DATA) holds ``debian_graph/deps.npz``; without it only (a)
runs.
"""

from __future__ import annotations

import argparse
import os
import resource
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import aggr as pyg
from torch_geometric.nn.aggr import Aggregation

from benchmarks.cases import CHANNELS, Case, debian_in_neighbours, equal_sets, sample_by_size
from benchmarks.measure import (
    RESULTS,
    environment,
    in_subprocess,
    interleaved_seconds,
    peak_growth,
    print_table,
    write_json,
)
from lcm_graph import LCMAggregation, RecurrentAggregation

AGGREGATORS: dict[str, Callable[[], Aggregation]] = {
    "lcm": lambda: LCMAggregation(CHANNELS, CHANNELS, project=False),
    "lcm_pyg": lambda: pyg.LCMAggregation(CHANNELS, CHANNELS, project=False),
    "gru": lambda: RecurrentAggregation(CHANNELS, CHANNELS, cell="gru"),
    "gru_pyg": lambda: pyg.GRUAggregation(CHANNELS, CHANNELS),
}
MODES = ("forward", "forward_backward")

# How often each is timed. PyG's LCM takes a minute or more on (b): it is timed once or twice there.
REPEATS = {
    "a": {"forward": (15, 15), "forward_backward": (9, 9)},
    "b": {"forward": (9, 2), "forward_backward": (7, 1)},
    "c": {"forward": (5, 0), "forward_backward": (3, 0)},
}  # case -> mode -> (ours, PyG's)
ADDRESS_SPACE = 64 * 2**30  # bytes that PyG may at most reserve when it is tried on (c)


def make_case(name: str, data: Path | None, quick: bool) -> Case:
    """The case called ``a``, ``b`` or ``c``; smaller if ``quick``."""
    if name == "a":
        return equal_sets(512 if quick else 8192, 16)
    assert data is not None
    debian = debian_in_neighbours(data)
    if name == "b":
        return sample_by_size(debian, *((200, 20_000) if quick else (2000, 4_000_000)))
    return debian


def make_aggregator(name: str) -> Aggregation:
    """An aggregator with the same weights for ours and for PyG's."""
    torch.manual_seed(0)
    aggregator = AGGREGATORS[name]()
    torch.manual_seed(0)
    aggregator.load_state_dict(AGGREGATORS[f"{name.removesuffix('_pyg')}_pyg"]().state_dict())
    return aggregator


def make_call(aggregator: Aggregation, case: Case, x: Tensor, mode: str) -> Callable[[], Tensor]:
    """One forward pass without a graph, or one with the gradients of ``x`` and all parameters."""

    def forward() -> Tensor:
        with torch.no_grad():
            return aggregator(x, case.index, dim_size=case.num_sets)

    def forward_backward() -> Tensor:
        aggregator.zero_grad()
        leaf = x.detach().requires_grad_()
        out = aggregator(leaf, case.index, dim_size=case.num_sets)
        out.backward(torch.ones_like(out))
        assert leaf.grad is not None
        return leaf.grad

    return forward if mode == "forward" else forward_backward


def time_case(
    name: str, data: Path | None, quick: bool, mode: str, names: list[str]
) -> dict[str, dict[str, float]]:
    """Seconds of each aggregator (run in a process of its own)."""
    case = make_case(name, data, quick)
    x = case.elements()
    calls = {n: make_call(make_aggregator(n), case, x, mode) for n in names}
    if name == "a":
        _check_agreement(calls)
    ours, theirs = (1, 1) if quick else REPEATS[name][mode]
    repeats = {n: theirs if n.endswith("_pyg") else ours for n in names}
    # A call that takes minutes is timed cold: first-call costs are small against it.
    warmup = {n: 1 if repeats[n] > 2 else 0 for n in names}
    return interleaved_seconds(calls, repeats, warmup)


def measure_memory(name: str, data: Path | None, quick: bool, mode: str, aggregator: str) -> int:
    """Peak growth in bytes of one call (run in a process of its own)."""
    case = make_case(name, data, quick)
    module, x = make_aggregator(aggregator), case.elements()
    small = equal_sets(4, 4)
    make_call(module, small, small.elements(), mode)()  # loads what is loaded on first use
    module.zero_grad()
    return peak_growth(make_call(module, case, x, mode))


def pyg_error(name: str, data: Path | None, quick: bool) -> str:
    """What PyG's aggregation answers to a case that it cannot pad (run in a process of its own)."""
    case = make_case(name, data, quick)
    module, x = make_aggregator("lcm_pyg"), case.elements()
    if case.padded_bytes < ADDRESS_SPACE:
        return "not tried: it could be allocated"
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    try:
        make_call(module, case, x, "forward")()
    except (RuntimeError, MemoryError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return "no error"


def run_case(name: str, data: Path | None, quick: bool) -> dict[str, Any]:
    """All figures of a case."""
    case = make_case(name, data, quick)
    names = [n for n in AGGREGATORS if name != "c" or not n.endswith("_pyg")]
    print(f"\n({name}) {case.description}, {case.num_elements:,} elements", flush=True)
    result: dict[str, Any] = {
        "description": case.description,
        "sets": case.num_sets,
        "elements": case.num_elements,
        "largest": case.largest,
        "channels": CHANNELS,
        "input_bytes": case.input_bytes,
        "padded_bytes": case.padded_bytes,
        "aggregators": {n: {} for n in names},
    }
    for mode in MODES:
        seconds = _or_none(time_case, name, data, quick, mode, names)
        for n in names:
            peak = _or_none(measure_memory, name, data, quick, mode, n)
            result["aggregators"][n][mode] = {
                "seconds": None if seconds is None else seconds[n],
                "peak_bytes": peak,
                "peak_per_input": None if peak is None else round(peak / case.input_bytes, 2),
                "missing": "out of memory" if seconds is None or peak is None else None,
            }
    if name == "c":
        result["pyg_error"] = in_subprocess(pyg_error, name, data, quick)
    _add_ratios(result["aggregators"])
    _print_case(result)
    return result


def _or_none(function: Callable[..., Any], *args: Any) -> Any:
    """The function's result in a process of its own, or ``None`` if memory runs out there."""
    try:
        return in_subprocess(function, *args)
    except BrokenProcessPool:
        return None


def _check_agreement(calls: dict[str, Callable[[], Tensor]]) -> None:
    """Ours must answer (and differentiate) as PyG's does where PyG's pads nothing."""
    for n in calls:
        if not n.endswith("_pyg"):
            torch.testing.assert_close(calls[n](), calls[f"{n}_pyg"](), rtol=1e-4, atol=1e-5)


def _add_ratios(aggregators: dict[str, Any]) -> None:
    """PyG's figure over ours, at ours."""
    for n in aggregators:
        theirs = aggregators.get(f"{n}_pyg")
        if theirs is None:
            continue
        for mode in MODES:
            ours, other = aggregators[n][mode], theirs[mode]
            if ours["seconds"] and other["seconds"]:
                ratio = other["seconds"]["median"] / ours["seconds"]["median"]
                ours["times_faster_than_pyg"] = round(ratio, 2)
            # Pages are counted, and Python's own traffic with them: a peak of less says nothing.
            if min(ours["peak_bytes"] or 0, other["peak_bytes"] or 0) >= 2**20:
                ours["times_smaller_than_pyg"] = round(other["peak_bytes"] / ours["peak_bytes"], 2)


def _print_case(result: dict[str, Any]) -> None:
    rows = []
    for n, modes in result["aggregators"].items():
        for mode, figures in modes.items():
            seconds, peak = figures["seconds"], figures["peak_bytes"]
            rows.append(
                [
                    f"{n} {mode}",
                    "-" if seconds is None else f"{seconds['median']:.4g} s",
                    "-" if peak is None else f"{peak / 2**20:,.0f} MiB",
                    "" if peak is None else f"{figures['peak_per_input']}x",
                    f"{figures.get('times_faster_than_pyg', '')}",
                    f"{figures.get('times_smaller_than_pyg', '')}",
                ]
            )
    header = ["", "median", "peak", "of input", "PyG's time / ours", "PyG's peak / ours"]
    print_table(header, rows)
    for n, modes in result["aggregators"].items():
        for mode, figures in modes.items():
            if figures["missing"]:
                print(f"{n} {mode}: {figures['missing']}")
    if "pyg_error" in result:
        print(f"PyG needs {result['padded_bytes'] / 1e9:,.0f} GB to pad; {result['pyg_error']}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.aggregators")
    parser.add_argument("--data", type=Path, help="folder of data sets (default: $LCM_DATA)")
    parser.add_argument("--cases", nargs="+", choices="abc", default=["a", "b", "c"])
    parser.add_argument(
        "--quick", action="store_true", help="small cases, one repeat; writes no results"
    )
    args = parser.parse_args()
    data = args.data or (Path(os.environ["LCM_DATA"]) if os.environ.get("LCM_DATA") else None)
    cases: list[str] = args.cases
    if data is None and cases != ["a"]:
        print("cases b and c are left out: pass --data ROOT or set LCM_DATA")
        cases = [case for case in cases if case == "a"]
    command = f"python -m benchmarks.aggregators --cases {' '.join(cases)}"
    command += "" if data is None else " --data ROOT"
    result: dict[str, Any] = {
        "environment": environment(command),
        "settings": {
            "dtype": "float32",
            "channels": CHANNELS,
            "project": False,
            "time": "median of repeats in turn, one process; ours includes planning the tree",
            "peak": "growth of resident memory during one call, beyond the input; own process",
        },
        "cases": {},
    }
    for name in cases:
        result["cases"][name] = run_case(name, data, args.quick)
        if not args.quick:  # after each case, so that an interruption loses one case only
            write_json(RESULTS / "aggregators.json", result)


if __name__ == "__main__":
    main()
