"""Time of closed-form segmented reductions on a CPU, ours against torch's and torch-scatter's.

    python -m benchmarks.closed_forms [--data ROOT] [--forms sum max ...] [--quick]

Sets are those of the dependency graph of Debian (``ROOT`` or $LCM_DATA holds
``debian_graph/deps.npz``), 8,192 sets of 16, and heavy-tailed ones. Elements are given sorted by
set, unsorted, or as the rows of fewer nodes, which peers other than ``embedding_bag`` and a sparse
product must copy for each edge first.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.cases import CHANNELS, Case, debian_in_neighbours, equal_sets
from benchmarks.measure import (
    RESULTS,
    environment,
    interleaved_seconds,
    print_table,
    write_json,
)
from lcm_graph import FoldPlan, segment_reduce
from lcm_graph.monoids import LogSumExp, Max, Mean, Min, Moments, Monoid, Softmax, Sum

try:
    import torch_scatter
except ImportError:
    torch_scatter = None

MONOIDS: dict[str, Monoid] = {
    "sum": Sum(),
    "mean": Mean(),
    "max": Max(),
    "min": Min(),
    "std": Moments(statistics=("std",)),
    "logsumexp": LogSumExp(),
    "softmax": Softmax(),
}
ORDERS = ("sorted", "unsorted", "gathered")
MODES = ("forward", "forward_backward")
SLOW = ("segment_reduce", "index_reduce")  # timed less often

Peer = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Sets:
    """A batch in one of the orders."""

    ptr: Tensor
    source: Tensor | None  # the row of each element, where elements are gathered
    index: Tensor  # the set of each element
    is_sorted: bool
    num_rows: int

    @property
    def num_sets(self) -> int:
        return self.ptr.numel() - 1

    def plan(self) -> FoldPlan:
        """What ours reads, made from what peers are given."""
        if self.is_sorted:
            made = FoldPlan.from_ptr(self.ptr)
        else:
            made = FoldPlan.from_index(self.index, self.num_sets)
        return made if self.source is None else made.gather(self.source, self.num_rows)


def in_order(case: Case, source: Tensor, order: str) -> Sets:
    """The case's sets in that order."""
    ptr = torch._convert_indices_from_coo_to_csr(case.index, case.num_sets)
    if order == "gathered":
        return Sets(ptr, source, case.index, True, case.num_sets)
    if order == "sorted":
        return Sets(ptr, None, case.index, True, case.num_elements)
    rows = torch.randperm(case.num_elements, generator=torch.Generator().manual_seed(1))
    index = torch.empty_like(case.index).index_copy_(0, rows, case.index)
    return Sets(ptr, None, index, False, case.num_elements)


def make_case(name: str, data: Path | None, quick: bool) -> tuple[Case, Tensor]:
    """A batch, and the node of each element where elements are gathered."""
    generator = torch.Generator().manual_seed(0)
    if name == "debian":
        assert data is not None
        with np.load(data / "debian_graph" / "deps.npz", allow_pickle=False) as arrays:
            source, target = torch.from_numpy(arrays["edge_index"].astype(np.int64))
        return debian_in_neighbours(data), source[target.argsort(stable=True)]
    if name == "equal":
        case = equal_sets(512 if quick else 8192, 16)
    else:
        num_sets = 2000 if quick else 50_000
        sizes = (torch.rand(num_sets, generator=generator).pow(-0.9) * 2).long().clamp_max(20_000)
        index = torch.arange(num_sets).repeat_interleave(sizes)
        case = Case(index, num_sets, f"heavy tail: {num_sets:,} sets of up to {int(sizes.max()):,}")
    return case, torch.randint(case.num_sets, (case.num_elements,), generator=generator)


# Ours --------------------------------------------------------------------------------------------


def ours(monoid: Monoid, sets: Sets, plan: FoldPlan | None, x: Tensor) -> Tensor:
    """As a user calls it, with a plan made before or with planning."""
    plan = sets.plan() if plan is None else plan
    return monoid.lower(segment_reduce(monoid, monoid.lift(x), plan=plan))


# Theirs ------------------------------------------------------------------------------------------


def peers(form: str, sets: Sets) -> dict[str, Peer]:
    """What else folds these sets, by name; all but the last two on one row an element."""
    by_element = {**_torch_peers(form, sets), **_scatter_peers(form, sets)}
    found = dict(by_element)
    if sets.source is not None:
        for name, fold in by_element.items():
            found[name] = partial(_copied, fold, sets.source)
    rows = sets.plan().rows
    rows = torch.arange(sets.index.numel()) if rows is None else rows
    if form in ("sum", "mean"):
        found["embedding_bag"] = lambda x: torch.nn.functional.embedding_bag(
            rows, x, sets.ptr, mode=form, include_last_offset=True
        )
    if form == "sum":
        ones = torch.ones(sets.index.numel())
        found["csr_matmul"] = lambda x: (
            torch.sparse_csr_tensor(sets.ptr, rows, ones, (sets.num_sets, x.size(0))) @ x
        )
    return found


def _copied(fold: Peer, rows: Tensor, x: Tensor) -> Tensor:
    return fold(x.index_select(0, rows))


def _torch_peers(form: str, sets: Sets) -> dict[str, Peer]:
    s, index = sets.num_sets, sets.index

    def reduced(x: Tensor, how: str) -> Tensor:
        out = x.new_zeros(s, x.size(1))
        return out.scatter_reduce(0, index[:, None].expand_as(x), x, how, include_self=False)

    def added(x: Tensor) -> Tensor:
        return x.new_zeros(s, x.size(1)).scatter_add(0, index[:, None].expand_as(x), x)

    def deviation(x: Tensor) -> Tensor:
        size = sets.ptr.diff().clamp_min(1)[:, None]
        variance = added(x * x) / size - (added(x) / size).square()
        return variance.clamp_min(1e-6).sqrt()

    name = {"max": "amax", "min": "amin"}.get(form, form)
    found: dict[str, Peer] = {}
    if form in ("sum", "mean", "max", "min"):
        found["scatter_reduce"] = lambda x: reduced(x, "sum" if form == "sum" else name)
        if sets.is_sorted:
            found["segment_reduce"] = lambda x: torch.segment_reduce(
                x, form, offsets=sets.ptr, initial=0 if form == "sum" else None
            )
    if form in ("mean", "max", "min"):
        found["index_reduce"] = lambda x: x.new_zeros(s, x.size(1)).index_reduce(
            0, index, x, name, include_self=False
        )
    if form == "sum":
        found["scatter_add"] = added
        found["index_add"] = lambda x: x.new_zeros(s, x.size(1)).index_add(0, index, x)
    if form == "std":
        found["scatter_add"] = deviation  # of sums of x and of x², which cancel
    if form in ("std", "logsumexp", "softmax"):
        monoid = MONOIDS[form]
        found["segment"] = lambda x: monoid.lower(monoid.segment(monoid.lift(x), index, s))
    return found


def _scatter_peers(form: str, sets: Sets) -> dict[str, Peer]:
    if torch_scatter is None:
        return {}
    s, index = sets.num_sets, sets.index
    found: dict[str, Peer] = {}
    if form in ("sum", "mean", "max", "min"):
        found["torch_scatter.scatter"] = lambda x: torch_scatter.scatter(
            x, index, 0, dim_size=s, reduce=form
        )
        if sets.is_sorted:
            found["torch_scatter.segment_csr"] = lambda x: torch_scatter.segment_csr(
                x, sets.ptr, reduce=form
            )
    if form == "std":
        found["torch_scatter.scatter_std"] = lambda x: torch_scatter.scatter_std(
            x, index, 0, dim_size=s, unbiased=False
        )
    if form == "logsumexp":
        found["torch_scatter.scatter_logsumexp"] = lambda x: torch_scatter.scatter_logsumexp(
            x, index, 0, dim_size=s
        )
    if form == "softmax":
        found["torch_scatter.scatter_softmax"] = lambda x: torch_scatter.scatter(
            x * torch_scatter.scatter_softmax(x, index, 0, dim_size=s), index, 0, dim_size=s
        )
    return found


# Measuring ---------------------------------------------------------------------------------------


def call(fold: Peer, x: Tensor, mode: str, cotangent: Tensor) -> Tensor:
    """One forward pass without a graph, or one with the gradient of ``x``."""
    if mode == "forward":
        with torch.no_grad():
            return fold(x)
    leaf = x.detach().requires_grad_()
    fold(leaf).backward(cotangent)
    assert leaf.grad is not None
    return leaf.grad


def measure(form: str, sets: Sets, quick: bool) -> dict[str, Any]:
    """Seconds of ours and of each peer, forward, and with the gradient."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(sets.num_rows, CHANNELS, generator=generator)
    cotangent = torch.randn(sets.num_sets, CHANNELS, generator=generator)
    monoid = MONOIDS[form]
    folds: dict[str, Peer] = {
        "ours": partial(ours, monoid, sets, sets.plan()),
        "ours, planning": partial(ours, monoid, sets, None),
        **peers(form, sets),
    }
    result: dict[str, Any] = {}
    for mode in MODES:
        calls: dict[str, Callable[[], object]] = {}
        for name, fold in folds.items():
            calls[name] = partial(call, fold, x, mode, cotangent)
            if "ours" in name:
                continue
            try:
                calls[name]()
            except (
                RuntimeError,
                NotImplementedError,
            ) as error:  # no gradient, or not in this order
                print(f"{form} {mode}: {name} left out ({str(error).splitlines()[0]})")
                del calls[name]
        often = 1 if quick else 3
        repeats = {name: min(often, 1) if name in SLOW else often for name in calls}
        seconds = interleaved_seconds(calls, repeats, dict.fromkeys(calls, 0 if quick else 1))
        others = {name: s["median"] for name, s in seconds.items() if "ours" not in name}
        best = min(others, key=others.__getitem__)
        result[mode] = {
            "seconds": seconds,
            "quickest_peer": best,
            "times_faster": round(others[best] / seconds["ours"]["median"], 2),
            "times_faster_planning": round(others[best] / seconds["ours, planning"]["median"], 2),
        }
    return result


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.closed_forms")
    parser.add_argument("--data", type=Path, help="folder of data sets (default: $LCM_DATA)")
    parser.add_argument("--forms", nargs="+", choices=list(MONOIDS), default=list(MONOIDS))
    cases = ["debian", "equal", "heavy"]
    parser.add_argument("--cases", nargs="+", choices=cases, default=cases)
    parser.add_argument(
        "--quick", action="store_true", help="small cases, one repeat; writes no results"
    )
    args = parser.parse_args()
    data = args.data or (Path(os.environ["LCM_DATA"]) if os.environ.get("LCM_DATA") else None)
    names = [name for name in args.cases if name != "debian" or not (data is None or args.quick)]
    command = f"python -m benchmarks.closed_forms --forms {' '.join(args.forms)}"
    command += f" --cases {' '.join(names)}"
    command += "" if data is None else " --data ROOT"
    result: dict[str, Any] = {
        "environment": environment(command),
        "settings": {
            "dtype": "float32",
            "channels": CHANNELS,
            "torch_scatter": None if torch_scatter is None else torch_scatter.__version__,
            "time": "median of repeats in turn, one process",
        },
        "cases": {},
    }
    # Forms that were measured before, and are not now, stay.
    path = RESULTS / "closed_forms.json"
    known = json.loads(path.read_text(encoding="utf-8"))["cases"] if path.exists() else {}
    result["cases"].update({name: known[name] for name in known if name not in names})
    rows = []
    warnings.filterwarnings("ignore", "Sparse (CSR tensor support|invariant checks)")
    for name in names:
        case, source = make_case(name, data, args.quick)
        print(f"{name}: {case.description}, {case.num_elements:,} elements", flush=True)
        forms: dict[str, Any] = known.get(name, {}).get("forms", {})
        result["cases"][name] = {
            "description": case.description,
            "elements": case.num_elements,
            "forms": forms,
        }
        for form in args.forms:
            forms[form] = {"commit": result["environment"]["commit"]}
            for order in ORDERS:
                found = measure(form, in_order(case, source, order), args.quick)
                forms[form][order] = found
                for mode in MODES:
                    figures = found[mode]
                    milliseconds = 1e3 * figures["seconds"]["ours"]["median"]
                    rows.append([f"{name} {form} {order} {mode}", f"{milliseconds:.1f} ms"])
                    rows[-1] += [figures["quickest_peer"], f"{figures['times_faster']}x"]
                    rows[-1].append(f"{figures['times_faster_planning']}x")
            if not args.quick:  # after each form, so that an interruption loses one form only
                write_json(path, result)
    print_table(["", "ours", "quickest peer", "its time / ours", "planning too"], rows)


if __name__ == "__main__":
    main()
