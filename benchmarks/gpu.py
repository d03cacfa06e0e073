"""The Triton kernels on one GPU: whether they are right, then how quick they are; under 8 minutes.

    python -m benchmarks.gpu [--quick] [--device cuda] [--json PATH] [--parts …] [--seconds 450]

``correctness`` comes first, and a failure ends it all with exit code 1. Then follow the rates of
the machine, a large copy and large matrix products, and times against them and against PyG, cuDNN
and torch. What there is no time for is named as left out. The result is written after each part.

``TRITON_INTERPRET=1 python -m benchmarks.gpu --device cpu --quick`` runs all of it on tiny sizes,
to see that it runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import RESULTS, environment, print_table, write_json

NAMES = (
    "correctness", "equal", "heavy_tailed", "long_set", "closed_forms", "memory", "layer",
    "equal_64_and_256", "compiled",
)  # fmt: skip
Row = dict[str, Any]


def gpu_environment(device: torch.device) -> dict[str, Any]:
    """What matters of the GPU and of what drives it."""
    import triton

    found: dict[str, Any] = {"triton": triton.__version__, "device": str(device)}
    if device.type != "cuda":
        return found
    properties = torch.cuda.get_device_properties(device)
    return {
        **found,
        "gpu": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "gpu_memory_gib": round(properties.total_memory / 2**30, 1),
        "driver": _driver(),
        "cuda": torch.version.cuda or torch.version.hip,
        "cudnn": torch.backends.cudnn.version(),
    }


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    if shutil.which(command[0]) is None:
        return "unknown"
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.split("\n")[0].strip() or "unknown"


# What is asked for ------------------------------------------------------------------------------


def targets(result: dict[str, Any]) -> list[dict[str, Any]]:
    """What was found of what is asked for; the worst case counts."""
    rows: dict[str, list[Row]] = {name: result.get(name, []) for name in NAMES[1:]}
    forward = [r for r in rows["equal"] if r["mode"] == "forward"]
    padded = [r for r in rows["heavy_tailed"] if r["times_faster"].get("PyG LCM")]
    small = [r for r in rows["closed_forms"] if "x 16" in r["case"]]
    wanted = [
        ("share of the bound, forward, bf16, d = 128", ">=", 0.4,
         [r["share_of_bound"] for r in forward if r["format"] == "bf16"]),
        ("times faster than PyG LCM, equal sizes", ">=", 10.0,
         [r["times_faster"]["PyG LCM"] for r in rows["equal"]]),
        ("times faster than PyG LCM, heavy-tailed sizes", ">=", 100.0,
         [r["times_faster"]["PyG LCM"] for r in padded]),
        ("times faster than cuDNN GRU, one set of 10^6", ">=", 500.0,
         [r["times_faster"]["cuDNN GRU"] for r in rows["long_set"]]),
        ("share of the copy's rate, closed forms, sets of 16", ">=", 0.8,
         [r["share_of_copy"] for r in small]),
        ("memory of a training step over its input", "<=", 3.0,
         [r["growth_over_input"].get("fold, planned") for r in rows["memory"]]),
    ]  # fmt: skip
    found = []
    for name, relation, target, values in wanted:
        known = [value for value in values if value is not None]
        worst = None
        if known:
            worst = min(known) if relation == ">=" else max(known)
        met = None if worst is None else (worst >= target if relation == ">=" else worst <= target)
        best = None
        if known:
            best = max(known) if relation == ">=" else min(known)
        found.append(
            {
                "name": name,
                "target": f"{relation} {target:g}",
                "worst": worst,
                "best": best,
                "met": met,
            }
        )
    return found


# Tables -----------------------------------------------------------------------------------------


def show_correctness(found: dict[str, Any]) -> None:
    rows = []
    for result in found["checks"]:
        errors = result["errors"]
        state = "unfinished" if result["unfinished"] else "ok"
        state = "skipped: " + result["skipped"][0] if result["skipped"] else state
        state = "FAILED" if result["failures"] else state
        rows.append([result["check"], f"{max(errors.values()):.1e}" if errors else "", state])
    print_table(["", "largest error", ""], rows)
    for result in found["checks"]:
        for failure in result["failures"]:
            print(f"FAILED  {result['check']}: {failure}")
        for note in result["notes"]:
            print(f"note: {result['check']}: {note}")


def show(part: str, rows: list[Row]) -> None:
    """A line for each case."""
    if not rows:
        return
    if part == "closed_forms":
        header = ["", "ms", "of copy (>= 80 %)", "times faster than"]
        lines = [
            [
                f"{r['form']}, {r['format']}, {r['case']}",
                _ms(r["seconds"].get("ours")),
                _percent(r["share_of_copy"]),
                _times(r["times_faster"]),
            ]
            for r in rows
        ]
    elif part == "memory":
        header = ["", "over the input (<= 3)"]
        lines = [[f"{r['case']}, {r['format']}", _times(r["growth_over_input"])] for r in rows]
    elif part == "layer":
        header = ["", "in place ms", "messages ms", "times faster", "peak in place / messages"]
        lines = [
            [
                f"{r['nodes']:,} nodes, {r['edges']:,} edges, {r['format']}, {r['mode']}",
                _ms(r["seconds"].get("in place")),
                _ms(r["seconds"].get("messages")),
                _number(r["times_faster_in_place"]),
                _number(r["peak_in_place_over_messages"]),
            ]
            for r in rows
        ]
    else:
        aim = {"equal": ">= 10", "heavy_tailed": ">= 100", "long_set": ">= 500"}.get(part)
        header = ["", "ms", "of bound (>= 40 %)", "with planning"]
        header += ["times faster than" + (f" ({aim})" if aim else ""), "launches"]
        lines = [
            [
                f"{r['case']}, d = {r['channels']}, {r['format']}, {r['mode']}",
                _ms(r["seconds"].get("fold, planned")),
                _percent(r["share_of_bound"]),
                _percent(r["share_of_bound_with_planning"]),
                _times(r["times_faster"]),
                str(r.get("launches", "")),
            ]
            for r in rows
        ]
    print_table(header, lines)
    for row in rows:
        for what, found in row.get("seconds", {}).items():
            if "error" in found:
                print(f"failed: {what}: {found['error']}")


def _ms(found: dict[str, Any] | None) -> str:
    return _number(None if found is None or "error" in found else 1e3 * found["median"])


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _times(values: dict[str, float | None]) -> str:
    return ", ".join(f"{what} {_number(value)}" for what, value in values.items()) or "–"


# The command ------------------------------------------------------------------------------------


def run(args: argparse.Namespace, device: torch.device) -> int:
    """All parts; returns the exit code."""
    # Triton must be known to run: these import the kernels.
    from benchmarks import gpu_correctness, gpu_speed
    from benchmarks.gpu_measure import Bench, rates, reason

    assert {*NAMES[1:]} == {*gpu_speed.PARTS}
    start = time.monotonic()
    bench = Bench(device, args.quick, start + args.seconds)
    path = args.json or (None if args.quick else RESULTS / "gpu.json")
    command = "python -m benchmarks.gpu" + (" --quick" if args.quick else "")
    result: dict[str, Any] = {"environment": {**environment(command), **gpu_environment(device)}}

    def write() -> None:
        result["left_out"] = bench.left_out
        result["targets"] = targets(result)
        result["seconds"] = round(time.monotonic() - start, 1)
        if path is not None:
            write_json(path, result)

    if "correctness" in args.parts:
        print("correctness", flush=True)
        # Compiling takes nearly all of it, and times need the same kernels.
        checked = gpu_correctness.run(bench, 0.6 * args.seconds, args.workers)
        result["correctness"] = checked
        bench.left_out += [f"unfinished: {name}" for name in checked["unfinished"]]
        show_correctness(checked)
        write()
        if not checked["passed"]:
            print("The kernels are wrong here: nothing was timed.")
            return 1
    parts = [name for name in NAMES[1:] if name in args.parts]
    if not parts:
        return 0
    measured = rates(bench)
    result["rates"] = {
        "copy_gb_per_second": round(measured.copy / 1e9, 1),
        "gemm_tflops": {name: round(rate / 1e12, 2) for name, rate in measured.gemm.items()},
    }
    print(f"\nrates: {result['rates']}")
    for name in parts:
        print(f"\n{name}", flush=True)
        rows = result[name] = []
        try:
            for row in gpu_speed.PARTS[name](bench, measured):
                rows.append(row)
        except Exception as error:
            bench.left_out.append(f"the rest of {name}: {reason(error)}")
        show(name, rows)
        write()
    print()
    shown = [
        [t["name"], t["target"], _number(t["worst"]), _number(t["best"]),
         {True: "met", False: "NOT MET", None: "–"}[t["met"]]]
        for t in result["targets"]
    ]  # fmt: skip
    print_table(["", "target", "worst", "best", ""], shown)
    for name in bench.left_out:
        print(f"left out: {name}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--quick", action="store_true", help="small cases; writes to --json alone")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu with --quick")
    parser.add_argument("--json", type=Path, help="default: benchmarks/results/gpu.json")
    parser.add_argument("--parts", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--seconds", type=float, default=450, help="how long it may take")
    parser.add_argument("--workers", type=int, help="processes that check correctness")
    args = parser.parse_args(arguments)
    device = torch.device(args.device)
    problem = _problem(device, args.quick)
    if problem:
        print(problem, file=sys.stderr)
        return 2
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)
        device = torch.device("cuda", torch.cuda.current_device())
    return run(args, device)


def _problem(device: torch.device, quick: bool) -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "benchmarks.gpu needs Triton: pip install triton"
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if device.type == "cuda":
        if not torch.cuda.is_available():
            return (
                "benchmarks.gpu needs a CUDA device; TRITON_INTERPRET=1 python -m benchmarks.gpu "
                "--device cpu --quick shows that it runs"
            )
        return "unset TRITON_INTERPRET to measure on a GPU" if interpreted else None
    if device.type != "cpu":
        return f"--device must be cuda or cpu (got {device})"
    return None if quick and interpreted else "--device cpu needs --quick and TRITON_INTERPRET=1"


if __name__ == "__main__":
    sys.exit(main())
