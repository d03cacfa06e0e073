"""Sets shared out among processes against one process, and what a lost process does.

    python -m benchmarks.shards [--elements 100000] [--channels 16]

Sets of all sizes, the first with a third of all elements, are shared out among 2 and 4 processes
(gloo): aligned, so that every process holds whole subtrees of each set, and unaligned. Reported are
the largest relative differences of values and of gradients to one process, in both precisions;
how far each rank's own fold, merged with the others' set by set, would be from it (the
associativity error, which ``distributed_reduce`` avoids); and seconds. Then the last rank is
killed between two calls, and the others say so.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from benchmarks.measure import RESULTS, environment, print_table, write_json
from lcm_graph.monoids import BinaryGRU, Monoid, Softmax, Sum, TopK
from lcm_graph.reduce import Accumulator, distributed_reduce, segment_reduce

SETS, SEED, REPEATS = 64, 0, 3
TIMEOUT = 30  # seconds that a group waits for a rank
MONOIDS: dict[str, Callable[[int], Monoid]] = {
    "Sum": Sum,
    "Softmax": Softmax,
    "TopK": lambda d: TopK(d, k=4),
    "BinaryGRU": BinaryGRU,
}
SHARES = ("aligned", "unaligned")
DTYPES = (torch.float32, torch.float64)
Case = tuple[str, str, int, int, torch.dtype]  # monoid, share, elements, channels, dtype


def sets(n: int) -> Tensor:
    """The set of each of n elements; set 0 has about a third of them."""
    draw = torch.rand(n, generator=torch.Generator().manual_seed(SEED))
    return (SETS * draw**4).long()


def owners(index: Tensor, share: str, world: int) -> Tensor:
    """The rank that holds each element, so that a set's elements lie in the order of the ranks."""
    order = index.argsort(stable=True)
    sizes = torch.bincount(index, minlength=SETS)
    place = torch.empty_like(index)
    place[order] = torch.arange(len(index)) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    each = (sizes / world).ceil().long()  # of a set, for a rank
    if share == "aligned":  # the next power of two
        each = 1 << torch.frexp((each - 1).double()).exponent.long()
    return (place // each[index]).clamp(max=world - 1)


def inputs(case: Case) -> tuple[Monoid, Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """Monoid, elements and sets, the same on every rank, and what draws cotangents."""
    name, _, n, channels, dtype = case
    torch.manual_seed(SEED)
    monoid = MONOIDS[name](channels).to(dtype)
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(n, channels, generator=generator, dtype=torch.float64).to(dtype)
    return monoid, x, sets(n), lambda out: torch.randn(out.shape, generator=generator).to(dtype)


def one_process(case: Case) -> tuple[dict[str, Tensor], float]:
    """Values and gradients, and the seconds of the quickest of a few times."""
    monoid, x, index, draw = inputs(case)
    x.requires_grad_()
    out = monoid.lower(segment_reduce(monoid, monoid.lift(x), index, dim_size=SETS))
    cotangent = draw(out)
    seconds = []
    for _ in range(REPEATS):
        x.grad = None
        monoid.zero_grad()
        began = time.perf_counter()
        out = monoid.lower(segment_reduce(monoid, monoid.lift(x), index, dim_size=SETS))
        (out * cotangent).sum().backward()
        seconds.append(time.perf_counter() - began)
    return _found(monoid, x, out), min(seconds)


def one_rank(rank: int, world: int, folder: str, cases: list[Case]) -> None:
    """The same of this rank's elements, case by case; writes what it found."""
    _join(rank, world, folder)
    torch.save([_fold_share(rank, world, case) for case in cases], Path(folder, f"{rank}.pt"))
    dist.barrier()
    dist.destroy_process_group()


def _fold_share(rank: int, world: int, case: Case) -> dict[str, Any]:
    monoid, x, index, draw = inputs(case)
    mine = (owners(index, case[1], world) == rank).nonzero().flatten()
    x = x[mine].requires_grad_()
    index = index[mine]
    seconds = []
    cotangent = None
    for _ in range(REPEATS):
        x.grad = None
        monoid.zero_grad()
        dist.barrier()
        began = time.perf_counter()
        out = monoid.lower(distributed_reduce(monoid, monoid.lift(x), index, dim_size=SETS))
        cotangent = draw(out) if cotangent is None else cotangent
        # Every rank answers for its share of the sets.
        answered = torch.arange(SETS) % world == rank
        (out * cotangent)[answered].sum().backward()
        for weight in monoid.parameters():
            dist.all_reduce(weight.grad)
        seconds.append(time.perf_counter() - began)
    return {"mine": mine, "seconds": min(seconds), **_found(monoid, x, out)}


def killed_rank(rank: int, world: int, folder: str) -> None:
    """Fold, be killed if last; the others write what they were told, and after how long."""
    _join(rank, world, folder)
    case: Case = ("BinaryGRU", "unaligned", 1000, 4, torch.float32)
    monoid, x, index, _ = inputs(case)
    mine = owners(index, "unaligned", world) == rank
    distributed_reduce(monoid, monoid.lift(x[mine]), index[mine], dim_size=SETS)
    if rank == world - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    began = time.perf_counter()
    try:
        distributed_reduce(monoid, monoid.lift(x[mine]), index[mine], dim_size=SETS)
    except RuntimeError as error:
        said = str(error).split(" (")[0]
        torch.save((time.perf_counter() - began, said), Path(folder, f"{rank}.pt"))
    os._exit(0)  # the group cannot be left in order any more


def merged_apart(case: Case, world: int) -> Tensor:
    """Each rank's elements folded by themselves, and the folds merged set by set."""
    monoid, x, index, _ = inputs(case)
    owner = owners(index, case[1], world)
    whole = Accumulator(monoid)
    with torch.no_grad():
        for rank in range(world):
            part = Accumulator(monoid)
            part.update(x[owner == rank], index[owner == rank], dim_size=SETS)
            whole.merge(part)
        return whole.result()


def compared(cases: list[Case], world: int) -> list[dict[str, float]]:
    """Of several processes to one: differences relative to the largest number, and seconds."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(one_rank, (world, folder, cases), nprocs=world)
        by_rank = [torch.load(Path(folder, f"{rank}.pt")) for rank in range(world)]
    return [
        _compared(case, world, [found[number] for found in by_rank])
        for number, case in enumerate(cases)
    ]


def _compared(case: Case, world: int, ranks: list[dict[str, Any]]) -> dict[str, float]:
    expected, alone = one_process(case)
    gradient = torch.zeros_like(expected["x"])
    for found in ranks:
        gradient[found["mine"]] = found["x"]
    gradients = [_difference(gradient, expected["x"])]
    for name in expected.keys() - {"out", "x"}:
        gradients.append(_difference(ranks[0][name], expected[name]))
    return {
        "values": max(_difference(found["out"], expected["out"]) for found in ranks),
        "gradients": max(gradients),
        "merged_apart": _difference(merged_apart(case, world), expected["out"]),
        "seconds": max(found["seconds"] for found in ranks),
        "seconds_of_one": alone,
    }


def lost(world: int) -> dict[str, Any]:
    """What the ranks that are left say, and the longest that one of them waited."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        context = spawn(killed_rank, (world, folder), nprocs=world, join=False)
        for process in context.processes:
            process.join(2 * TIMEOUT)
        told = [torch.load(Path(folder, f"{rank}.pt")) for rank in range(world - 1)]
        return {
            "seconds": max(seconds for seconds, _ in told),
            "seconds_with_start": time.perf_counter() - began,
            "said": told[0][1],
        }


def _join(rank: int, world: int, folder: str) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=world,
        timeout=datetime.timedelta(seconds=TIMEOUT),
    )


def _found(monoid: Monoid, x: Tensor, out: Tensor) -> dict[str, Tensor]:
    assert x.grad is not None
    weights = {name: w.grad for name, w in monoid.named_parameters() if w.grad is not None}
    return {"out": out.detach(), "x": x.grad, **weights}


def _difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-300))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shards")
    parser.add_argument("--elements", type=int, default=100_000)
    parser.add_argument("--channels", type=int, default=16)
    args = parser.parse_args()
    torch.set_num_threads(1)
    combinations = list(itertools.product(MONOIDS, SHARES, DTYPES))
    cases: list[Case] = [
        (name, share, args.elements, args.channels, dtype) for name, share, dtype in combinations
    ]
    found = {
        (*combination, world): one
        for world in (2, 4)
        for combination, one in zip(combinations, compared(cases, world), strict=True)
    }
    rows = []
    for name, share, world in itertools.product(MONOIDS, SHARES, (2, 4)):
        row = [name, share, str(world)]
        for dtype in DTYPES:
            one = found[name, share, dtype, world]
            row += [f"{one['values']:.0e}", f"{one['gradients']:.0e}"]
        row += [f"{one['merged_apart']:.0e}"]
        row += [f"{one['seconds'] * 1e3:.0f} ms", f"{one['seconds_of_one'] * 1e3:.0f} ms"]
        rows.append(row)
    print_table(
        ["", "share", "processes", "float32: values", "gradients", "float64: values", "gradients",
         "merged apart", "seconds", "of one"],
        rows,
    )  # fmt: skip
    ended = {world: lost(world) for world in (2, 4)}
    for world, one in ended.items():
        print(f"one of {world} killed: told after {one['seconds']:.1f} s: {one['said']}")
    result = {
        "environment": environment(
            f"python -m benchmarks.shards --elements {args.elements} --channels {args.channels}"
        ),
        "settings": {"sets": SETS, "seed": SEED, "timeout_seconds": TIMEOUT},
        "compared": [
            {"monoid": name, "share": share, "dtype": str(dtype), "processes": world, **one}
            for (name, share, dtype, world), one in found.items()
        ],
        "lost": ended,
    }
    write_json(RESULTS / "shards.json", result)


if __name__ == "__main__":
    main()
