"""Streams against batches, memory against length, and 10⁸ elements killed twice.

    python -m benchmarks.streams [--largest 1000000] [--elements 100000000]

Every monoid takes in sets of ever more elements, cut into chunks at random places; reported is
the largest relative difference to the fold of all at once. Then one set of ``--elements`` random
elements, drawn chunk by chunk, is folded in a process of its own, once undisturbed and once killed
twice at random moments and gone on with.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import (
    RESULTS,
    environment,
    in_subprocess,
    peak_growth,
    print_table,
    write_json,
)
from lcm_graph import monoids
from lcm_graph.monoids import Monoid
from lcm_graph.monoids.state import leaves
from lcm_graph.reduce import Accumulator, accumulate, segment_reduce

CHANNELS = 16
CHUNK = 1 << 17
SETS = 10
SEED = 0
MONOIDS: dict[str, Callable[[int], Monoid]] = {
    "Sum": monoids.Sum,
    "Mean": monoids.Mean,
    "Moments": monoids.Moments,
    "Max": monoids.Max,
    "Min": monoids.Min,
    "TopK": lambda d: monoids.TopK(d, k=4),
    "LogSumExp": monoids.LogSumExp,
    "Softmax": monoids.Softmax,
    "AbelianGroup": monoids.AbelianGroup,
    "GeneralizedMean": monoids.GeneralizedMean,
    "FourierProduct": monoids.FourierProduct,
    "Fishnets": monoids.Fishnets,
    "Lattice": monoids.Lattice,
    "KeyedTopK": monoids.KeyedTopK,
    "Rotation": lambda d: monoids.Rotation(d, clocks=4),
    "BinaryGRU": monoids.BinaryGRU,
    "BinaryMLP": monoids.BinaryMLP,
    "BinaryLSTM": monoids.BinaryLSTM,
    "PairAttention": monoids.PairAttention,
    "SlotSelection": monoids.SlotSelection,
    "GatedLattice": monoids.GatedLattice,
    "Normalized": lambda d: monoids.Normalized(monoids.BinaryGRU(d)),
    "Lifted": lambda d: monoids.Lifted(nn.Linear(d, d), monoids.BinaryGRU(d)),
    "Product": lambda d: monoids.Product(monoids.Sum(d), monoids.BinaryGRU(d)),
}


def elements(number: int, size: int) -> Tensor:
    """Chunk ``number`` of the stream: standard normal, the same each time."""
    generator = torch.Generator().manual_seed(SEED + number)
    return torch.randn(size, CHANNELS, generator=generator)


@torch.no_grad()
def agreement(name: str, n: int, dtype: torch.dtype, cuts: int = 20) -> dict[str, float]:
    """Largest relative difference of stream and batch, and what the stream keeps."""
    torch.manual_seed(SEED)
    monoid = MONOIDS[name](CHANNELS).to(dtype).eval()
    generator = torch.Generator().manual_seed(n)
    x = torch.randn(n, CHANNELS, generator=generator, dtype=torch.float64).to(dtype)
    index = torch.randint(0, SETS, (n,), generator=generator)
    expected = monoid.lower(segment_reduce(monoid, monoid.lift(x), index, dim_size=SETS))
    places = torch.randint(0, n + 1, (cuts,), generator=generator).sort().values
    stream = Accumulator(monoid)
    for some, where in zip(x.tensor_split(places), index.tensor_split(places), strict=True):
        stream.update(some, where, dim_size=SETS)
    difference = (stream.result() - expected).abs().max() / expected.abs().max()
    kept = sum(t.numel() * t.element_size() for t in leaves(stream.state()))
    return {
        "difference": float(difference),
        "states": stream.num_states,
        "kibibytes": stream.num_states * kept / SETS / 1024,
    }


@torch.no_grad()
def peak(n: int, at_once: bool) -> int:
    """Bytes that memory grows by, with a BinaryGRU on one set of n elements."""
    monoid = monoids.BinaryGRU(CHANNELS)

    def stream() -> None:
        accumulator = Accumulator(monoid)
        for number in range(-(-n // CHUNK)):
            accumulator.update(elements(number, min(CHUNK, n - number * CHUNK)))
        accumulator.result()

    def batch() -> None:
        sizes = [min(CHUNK, n - number * CHUNK) for number in range(-(-n // CHUNK))]
        x = torch.cat([elements(number, size) for number, size in enumerate(sizes)])
        monoid.lower(segment_reduce(monoid, monoid.lift(x)))

    (batch if at_once else stream)()  # what is allocated once
    return peak_growth(batch if at_once else stream)


def fold_file(name: str, n: int, path: str) -> None:
    """What the process that is killed does: prints when it begins, and its answer."""
    torch.manual_seed(SEED)
    monoid = MONOIDS[name](CHANNELS).eval()

    def chunks() -> Iterator[Tensor]:
        for number in range(-(-n // CHUNK)):
            yield elements(number, min(CHUNK, n - number * CHUNK))

    stream = Accumulator(monoid)
    print("begun", flush=True)
    began = time.perf_counter()
    accumulate(stream, chunks(), path=path, every=1.0)
    seconds = time.perf_counter() - began
    status = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
    answer = {
        "seconds": seconds,
        "peak_mib": int(status) / 1024,
        "file_kib": Path(path).stat().st_size / 1024,
        "elements": stream.num_elements,
        "result": stream.result().flatten().tolist(),
    }
    print(json.dumps(answer), flush=True)


def run_file(name: str, n: int, path: Path, lives: list[float]) -> dict[str, Any]:
    """Fold in processes of their own, each but the last killed after some seconds."""
    call = f"from benchmarks.streams import fold_file; fold_file({name!r}, {n}, {str(path)!r})"
    taken = []
    for life in lives:
        with subprocess.Popen([sys.executable, "-c", call], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(life)
            process.send_signal(signal.SIGKILL)
        taken.append(life)
    done = subprocess.run([sys.executable, "-c", call], stdout=subprocess.PIPE, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[1])
    return answer | {"killed_after": taken}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams")
    parser.add_argument("--largest", type=int, default=1_000_000)
    parser.add_argument("--elements", type=int, default=100_000_000)
    parser.add_argument("--monoids", nargs="+", default=["Sum", "BinaryGRU"], choices=MONOIDS)
    args = parser.parse_args()

    sizes = [n for n in (1_000, 31_000, 1_000_000) if n < args.largest] + [args.largest]
    found: dict[str, dict[str, Any]] = {}
    for name in MONOIDS:
        found[name] = {
            str(dtype).removeprefix("torch."): {n: agreement(name, n, dtype) for n in sizes}
            for dtype in (torch.float32, torch.float64)
        }
    header = ["largest relative difference", *(f"float32, n = {n:,}" for n in sizes)]
    header += [f"float64, n = {sizes[-1]:,}", "states", "KiB"]
    rows = []
    for name, by in found.items():
        last = by["float32"][sizes[-1]]
        cells = [f"{by['float32'][n]['difference']:.1e}" for n in sizes]
        cells += [f"{by['float64'][sizes[-1]]['difference']:.1e}"]
        rows.append([name, *cells, f"{last['states']}", f"{last['kibibytes']:.1f}"])
    print_table(header, rows)

    lengths = [10**k for k in range(5, 8) if 10**k <= args.elements]
    growth = {
        n: {
            "stream": in_subprocess(peak, n, False),
            "batch": in_subprocess(peak, n, True),
        }
        for n in lengths
    }
    print_table(
        ["peak memory, BinaryGRU", "stream", "all at once"],
        [
            [f"n = {n:,}", *(f"{by[way] / 2**20:,.0f} MiB" for way in ("stream", "batch"))]
            for n, by in growth.items()
        ],
    )

    long: dict[str, Any] = {}
    draw = random.Random(SEED)
    for name in args.monoids:
        with tempfile.TemporaryDirectory() as folder:
            whole = run_file(name, args.elements, Path(folder, "whole"), [])
            lives = [draw.uniform(0.2, 0.4) * whole["seconds"] for _ in range(2)]
            killed = run_file(name, args.elements, Path(folder, "killed"), lives)
        long[name] = {
            "seconds": whole["seconds"],
            "elements_per_second": args.elements / whole["seconds"],
            "peak_mib": whole["peak_mib"],
            "file_kib": whole["file_kib"],
            "killed_after": killed["killed_after"],
            "same_answer": whole["result"] == killed["result"],
            "same_number": whole["elements"] == killed["elements"] == args.elements,
        }
        assert long[name]["same_answer"] and long[name]["same_number"], long[name]
    print_table(
        [f"{args.elements:,} elements", "seconds", "elements/s", "peak", "file", "killed after"],
        [
            [
                name,
                f"{one['seconds']:.0f}",
                f"{one['elements_per_second']:,.0f}",
                f"{one['peak_mib']:.0f} MiB",
                f"{one['file_kib']:.0f} KiB",
                " and ".join(f"{life:.1f} s" for life in one["killed_after"]) + ": same answer",
            ]
            for name, one in long.items()
        ],
    )
    result = {
        "environment": environment(
            f"python -m benchmarks.streams --largest {args.largest} --elements {args.elements}"
        ),
        "settings": {"channels": CHANNELS, "chunk": CHUNK, "sets": SETS, "seed": SEED},
        "agreement": found,
        "peak_bytes": growth,
        "long": long,
    }
    write_json(RESULTS / "streams.json", result)


if __name__ == "__main__":
    main()
