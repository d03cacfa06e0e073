"""How quick the Binary-GRU fold is on CPU: against PyG, against the machine, as sets grow.

    python -m benchmarks.speed [--data ROOT] [--parts equal layer growth profile] [--quick]

``equal``: sets of one size, PyG's best case, against its LCM and GRU aggregations. ``layer``: a
SAGE layer over the dependency graph of Debian (``ROOT/debian_graph/deps.npz``) that reads node
features in place, against the same layer writing messages. ``growth``: time against the number of
elements, and against the size of one set. ``profile``: how far a fold is from the time that the
machine's own rate of matrix products allows, and where the rest goes.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.nn import SAGEConv
from torch_geometric.nn import aggr as pyg

from benchmarks.cases import equal_sets
from benchmarks.measure import (
    RESULTS,
    environment,
    in_subprocess,
    interleaved_seconds,
    peak_growth,
    print_table,
    write_json,
)
from lcm_graph import FoldPlan, LCMAggregation, segment_reduce
from lcm_graph.aggregators import FusedMessages
from lcm_graph.kernels import backend
from lcm_graph.monoids import BinaryGRU

MODES = ("forward", "forward_backward")
EQUAL = ((8192, 16), (1024, 128))
CHANNELS = (64, 128)
GROWTH_CHANNELS = 32
GROWTH = (10_000, 100_000, 1_000_000, 10_000_000)
ONE_SET = (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)


class FusedSAGEConv(FusedMessages, SAGEConv):
    """A SAGE layer that writes no messages."""


def gemm_call(channels: int) -> tuple[Callable[[], object], int]:
    """Products as a fold's, ``[2048, d] x [d, 4 d]``, one after another; and its multiply-adds."""
    a, w = torch.randn(2048, channels), torch.randn(4 * channels, channels)
    out = torch.empty(2048, 4 * channels)

    def run() -> None:
        for _ in range(100):
            torch.mm(a, w.t(), out=out)

    return run, 100 * 2048 * 4 * channels**2


def copy_rate() -> float:
    """Bytes a second, read and written, of a copy of 256 MiB; best of many."""
    a = torch.randn(64 * 2**20)
    out = torch.empty_like(a)
    times = interleaved_seconds({"copy": lambda: out.copy_(a)}, {"copy": 20}, {"copy": 3})
    return 2 * a.numel() * 4 / times["copy"]["min"]


def call_of(
    module: Callable[..., Tensor], parameters: list[Tensor], mode: str, x: Tensor, *args: Any
) -> Callable[[], object]:
    """One forward pass without a graph, or one with the gradients of ``x`` and the parameters."""

    def forward() -> Tensor:
        with torch.no_grad():
            return module(x, *args)

    def forward_backward() -> tuple[Tensor, ...]:
        leaf = x.detach().requires_grad_()
        out = module(leaf, *args)
        return torch.autograd.grad(
            out, [leaf, *parameters], torch.ones_like(out), allow_unused=True
        )

    return forward if mode == "forward" else forward_backward


def with_backend(name: str, call: Callable[[], object]) -> Callable[[], object]:
    """The call with a backend."""

    def run() -> object:
        with backend(name):
            return call()

    return run


# Equal sets ------------------------------------------------------------------------------------


def equal(num_sets: int, size: int, channels: int, mode: str, quick: bool) -> dict[str, Any]:
    """Seconds of one case (run in a process of its own)."""
    torch.manual_seed(0)
    case = equal_sets(num_sets, size)
    x = torch.randn(case.num_elements, channels)
    theirs = pyg.LCMAggregation(channels, channels, project=False)
    ours = LCMAggregation(channels, channels, project=False)
    ours.load_state_dict(theirs.state_dict())
    gru = pyg.GRUAggregation(channels, channels)
    bare = torch.nn.GRU(channels, channels, batch_first=True)
    monoid = ours.monoid
    plan = FoldPlan.from_index(case.index, case.num_sets)
    _ = plan.tree, plan.level_ptr

    def fold(recompute: bool | None) -> Callable[[Tensor], Tensor]:
        return lambda x: (
            segment_reduce(monoid, monoid.lift(x), plan=plan, recompute=recompute).value
        )

    def aggregation(module: Any) -> Callable[[], object]:
        return call_of(
            lambda x: module(x, case.index, dim_size=case.num_sets),
            list(module.parameters()),
            mode,
            x,
        )

    dense = x.view(num_sets, size, channels)
    calls = {
        "ours": aggregation(ours),
        "ours, compiled": with_backend("compile", aggregation(ours)),
        "PyG LCM": aggregation(theirs),
        "PyG GRU": aggregation(gru),
        "torch GRU, dense": call_of(
            lambda x: bare(x)[0][:, -1], list(bare.parameters()), mode, dense
        ),
        "fold, planned": call_of(fold(None), list(monoid.parameters()), mode, x),
        "fold, planned, compiled": with_backend(
            "compile", call_of(fold(None), list(monoid.parameters()), mode, x)
        ),
    }
    if mode == "forward_backward":
        for name, recompute in (("gates kept", False), ("recomputed", True)):
            calls[f"fold, planned, {name}"] = call_of(
                fold(recompute), list(monoid.parameters()), mode, x
            )
    with torch.no_grad():
        torch.testing.assert_close(ours(x, case.index), theirs(x, case.index), rtol=1e-4, atol=1e-5)
    repeats = 1 if quick else 7
    seconds = interleaved_seconds(calls, dict.fromkeys(calls, repeats), dict.fromkeys(calls, 1))
    ours_seconds, compiled = seconds["ours"], seconds["ours, compiled"]
    return {
        "sets": num_sets,
        "size": size,
        "channels": channels,
        "mode": mode,
        "seconds": seconds,
        "times_faster": {
            peer: {
                "ours": round(seconds[peer]["median"] / ours_seconds["median"], 2),
                "compiled": round(seconds[peer]["median"] / compiled["median"], 2),
            }
            for peer in ("PyG LCM", "PyG GRU", "torch GRU, dense")
        },
    }


def run_equal(quick: bool) -> list[dict[str, Any]]:
    results = []
    rows = []
    for num_sets, size in EQUAL:
        for channels in CHANNELS:
            for mode in MODES:
                sets = num_sets // 16 if quick else num_sets
                result = in_subprocess(equal, sets, size, channels, mode, quick)
                results.append(result)
                seconds, faster = result["seconds"], result["times_faster"]
                rows.append(
                    [
                        f"{sets:,} x {size}, d = {channels}, {mode}",
                        *(f"{seconds[n]['median']:.3f}" for n in ("ours", "ours, compiled")),
                        *(f"{seconds[n]['median']:.3f}" for n in ("PyG LCM", "PyG GRU")),
                        *(
                            f"{faster[peer][how]}"
                            for peer in ("PyG LCM", "PyG GRU")
                            for how in ("ours", "compiled")
                        ),
                    ]
                )
                print(rows[-1][0], flush=True)
    header = ["", "ours s", "compiled s", "PyG LCM s", "PyG GRU s"]
    header += ["LCM/ours", "LCM/compiled", "GRU/ours", "GRU/compiled"]
    print_table(header, rows)
    return results


# A layer on a graph ----------------------------------------------------------------------------


def debian(data: Path) -> tuple[Tensor, int]:
    """Edges and number of nodes."""
    with np.load(data / "debian_graph" / "deps.npz", allow_pickle=False) as arrays:
        edges = torch.from_numpy(arrays["edge_index"].astype(np.int64))
        return edges, len(arrays["node_kind"])


def layers(channels: int) -> dict[str, Any]:
    """The layer that reads node features in place, and the same that writes messages."""
    made = {}
    for name, layer in (("in place", FusedSAGEConv), ("messages", SAGEConv)):
        torch.manual_seed(0)
        made[name] = layer(channels, channels, aggr=LCMAggregation(channels, channels))
    return made


def layer_seconds(data: Path, channels: int, mode: str, quick: bool) -> dict[str, Any]:
    edges, nodes = debian(data)
    torch.manual_seed(0)
    x = torch.randn(nodes, channels)
    made = layers(channels)
    calls = {
        name: call_of(layer, list(layer.parameters()), mode, x, edges)
        for name, layer in made.items()
    }
    with torch.no_grad():
        torch.testing.assert_close(
            made["in place"](x, edges), made["messages"](x, edges), rtol=1e-4, atol=1e-4
        )
    return interleaved_seconds(
        calls, dict.fromkeys(calls, 1 if quick else 3), dict.fromkeys(calls, 1)
    )


def layer_peak(data: Path, channels: int, mode: str, name: str) -> int:
    edges, nodes = debian(data)
    x = torch.randn(nodes, channels)
    layer = layers(channels)[name]
    parameters = list(layer.parameters())
    call_of(layer, parameters, mode, torch.randn(9, channels), edges[:, :0])()
    small = torch.randint(0, 9, (2, 50))
    call_of(layer, parameters, mode, torch.randn(9, channels), small)()
    return peak_growth(call_of(layer, parameters, mode, x, edges))


def run_layer(data: Path, quick: bool) -> list[dict[str, Any]]:
    results = []
    rows = []
    for channels in (64, 128):
        for mode in MODES:
            seconds = in_subprocess(layer_seconds, data, channels, mode, quick)
            peaks = {
                name: in_subprocess(layer_peak, data, channels, mode, name) for name in seconds
            }
            time = seconds["messages"]["median"] / seconds["in place"]["median"]
            peak = peaks["in place"] / peaks["messages"]
            results.append(
                {
                    "channels": channels,
                    "mode": mode,
                    "seconds": seconds,
                    "peak_bytes": peaks,
                    "times_faster_in_place": round(time, 2),
                    "peak_in_place_over_messages": round(peak, 2),
                }
            )
            rows.append(
                [
                    f"Debian, d = {channels}, {mode}",
                    *(f"{seconds[n]['median']:.3f}" for n in seconds),
                    *(f"{peaks[n] / 2**20:,.0f}" for n in seconds),
                    f"{time:.2f}",
                    f"{peak:.2f}",
                ]
            )
            print(rows[-1][0], flush=True)
    header = ["", "in place s", "messages s", "in place MiB", "messages MiB", "time", "peak"]
    print_table(header, rows)
    return results


# Growth ----------------------------------------------------------------------------------------


def growth_seconds(n: int, size: int, quick: bool) -> dict[str, Any]:
    """Seconds for ``n`` elements in sets of ``size``, planning included."""
    torch.manual_seed(0)
    monoid = BinaryGRU(GROWTH_CHANNELS)
    ptr = torch.arange(0, n + 1, size)
    x = torch.randn(n, GROWTH_CHANNELS)
    depths = []

    def fold(x: Tensor) -> Tensor:
        plan = FoldPlan.from_ptr(ptr)
        depths.append(plan.depth)
        return segment_reduce(monoid, monoid.lift(x), plan=plan).value

    calls = {mode: call_of(fold, list(monoid.parameters()), mode, x) for mode in MODES}
    repeats = 1 if quick else max(3, min(15, 3_000_000 // n))
    seconds = interleaved_seconds(calls, dict.fromkeys(calls, repeats), dict.fromkeys(calls, 1))
    return {"elements": n, "size": size, "depth": depths[0], "seconds": seconds}


def exponent(results: list[dict[str, Any]], mode: str) -> float:
    """Slope of log seconds against log elements."""
    n = np.log([r["elements"] for r in results])
    seconds = np.log([r["seconds"][mode]["median"] for r in results])
    return round(float(np.polyfit(n, seconds, 1)[0]), 3)


def run_growth(quick: bool) -> dict[str, Any]:
    largest = 100_000 if quick else 10_000_000
    found: dict[str, Any] = {}
    for name, sizes in (("elements", GROWTH), ("one_set", ONE_SET)):
        results = []
        for n in (n for n in sizes if n <= largest):
            size = 16 if name == "elements" else n
            results.append(in_subprocess(growth_seconds, n - n % size, size, quick))
            print(f"{name}: {n:,}", flush=True)
        found[name] = results
        found[f"{name}_exponent"] = {mode: exponent(results, mode) for mode in MODES}
        # Small folds are all overhead, which flatters a slope: once more without them.
        large = [r for r in results if r["elements"] >= 100_000]
        if len(large) > 1:
            found[f"{name}_exponent_from_100000"] = {m: exponent(large, m) for m in MODES}
        rows = [
            [
                f"{r['elements']:,}",
                f"{r['size']:,}",
                str(r["depth"]),
                *(f"{r['seconds'][m]['median']:.5f}" for m in MODES),
                *(f"{r['seconds'][m]['median'] / r['elements'] * 1e9:.0f}" for m in MODES),
            ]
            for r in results
        ]
        header = ["elements", "size", "depth", "forward s", "f + b s", "ns/element", "ns/element"]
        print_table(header, rows)
        print(f"exponent {found[f'{name}_exponent']}")
    return found


# Where the time goes ---------------------------------------------------------------------------

KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::addmm_"),
    "gathers and scatters": ("aten::index_select", "aten::index_copy_", "aten::index_add_"),
    "sigmoids": ("aten::sigmoid_", "aten::sigmoid", "aten::sigmoid_backward"),
}


def profile(num_sets: int, size: int, channels: int, mode: str) -> dict[str, Any]:
    """A planned fold against its bound, and its time by kind of operator (own process).

    The bound is what the machine's rate of matrix products, measured in turn with the folds, allows
    for the multiply-adds that are needed: 8 d² a pair forward and 16 d² backward.
    """
    torch.manual_seed(0)
    monoid = BinaryGRU(channels)
    x = torch.randn(num_sets * size, channels)
    plan = FoldPlan.from_ptr(torch.arange(num_sets + 1) * size)

    def fold(x: Tensor) -> Tensor:
        return segment_reduce(monoid, monoid.lift(x), plan=plan).value

    call = call_of(fold, list(monoid.parameters()), mode, x)
    products, multiply_adds = gemm_call(channels)
    calls = {
        "products": products,
        "eager": call,
        "compiled": with_backend("compile", call),
    }
    seconds = interleaved_seconds(calls, dict.fromkeys(calls, 9), dict.fromkeys(calls, 1))
    rate = multiply_adds / seconds["products"]["median"]
    needed = (8 if mode == "forward" else 24) * channels**2 * num_sets * (size - 1)
    bound = needed / rate
    with torch.profiler.profile() as trace:
        for _ in range(5):
            call()
    events = trace.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    shares = {
        kind: sum(e.self_cpu_time_total for e in events if e.key in names) / total
        for kind, names in KINDS.items()
    }
    simple = ("aten::add", "aten::sub", "aten::mul", "aten::lerp", "aten::addcmul")
    shares["other arithmetic"] = (
        sum(e.self_cpu_time_total for e in events if e.key.rstrip("_") in simple) / total
    )
    shares["the rest"] = 1 - sum(shares.values())
    return {
        "gemm_gflops": round(2 * rate / 1e9, 1),
        "bound_seconds": bound,
        "seconds": seconds,
        "of_bound": {n: round(bound / seconds[n]["median"], 3) for n in ("eager", "compiled")},
        "eager_shares": {kind: round(share, 3) for kind, share in shares.items()},
    }


def run_profile() -> list[dict[str, Any]]:
    results = []
    for channels in CHANNELS:
        for mode in MODES:
            found = in_subprocess(profile, 8192, 16, channels, mode)
            results.append({"channels": channels, "mode": mode, **found})
            print(
                f"d = {channels}, {mode}: {found['gemm_gflops']} GFLOP/s, "
                f"{found['of_bound']} of the bound; {found['eager_shares']}",
                flush=True,
            )
    return results


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed")
    parser.add_argument("--data", type=Path, help="folder of data sets (default: $LCM_DATA)")
    parts = ["equal", "layer", "growth", "profile"]
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--quick", action="store_true", help="small cases; writes no results")
    args = parser.parse_args()
    data = args.data or (Path(os.environ["LCM_DATA"]) if os.environ.get("LCM_DATA") else None)
    command = f"python -m benchmarks.speed --parts {' '.join(args.parts)}"
    command += "" if data is None else " --data ROOT"
    found: dict[str, Any] = {
        "environment": environment(command),
        "copy_gb_per_second": round(copy_rate() / 1e9, 1),
    }
    for part in args.parts:
        print(f"\n{part}", flush=True)
        if part == "equal":
            result: Any = run_equal(args.quick)
        elif part == "growth":
            result = run_growth(args.quick)
        elif part == "profile":
            result = run_profile()
        elif data is None:
            print("left out: pass --data ROOT or set LCM_DATA")
            continue
        else:
            result = run_layer(data, args.quick)
        if not args.quick:  # a file each, so that parts can be measured one by one
            write_json(RESULTS / f"speed_{part}.json", {**found, part: result})


if __name__ == "__main__":
    main()
