"""How quick the kernels are on a GPU: against the machine, against PyG, cuDNN and torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor
from torch_geometric.nn import aggr as pyg

from benchmarks.gpu_measure import (
    FORMATS,
    Bench,
    Rates,
    Stopwatch,
    float32_products,
    median,
    peak_growth,
    ratio,
    reason,
    timed,
)
from benchmarks.speed import MODES, call_of, layers, with_backend
from lcm_graph import FoldPlan, LCMAggregation, segment_reduce
from lcm_graph.kernels.binary_gru.triton_launch import Launch
from lcm_graph.kernels.segment import triton_closed_forms as closed
from lcm_graph.kernels.segment.tasks import plan as plan_segments
from lcm_graph.monoids import LogSumExp, Max, Mean, Moments, Monoid, Softmax, Sum

try:
    import torch_scatter
except ImportError:
    torch_scatter = None

PLANNED, PLANNING = "fold, planned", "fold and plan"
TORCH, COMPILED = "torch backend", "compiled backend"
LCM, GRU = "PyG LCM", "PyG GRU"
ELEMENTS = 2**20
LARGEST_PADDED = 2000


class Sets(NamedTuple):
    """Sets of so many elements each, laid end to end."""

    name: str
    sizes: Tensor  # int64, on the CPU

    @property
    def elements(self) -> int:
        return int(self.sizes.sum())

    @property
    def pairs(self) -> int:
        return int((self.sizes - 1).clamp_min(0).sum())

    def ptr(self, device: torch.device) -> Tensor:
        return torch.cat([torch.zeros(1, dtype=torch.int64), self.sizes.cumsum(0)]).to(device)

    def set_of_each(self, device: torch.device) -> Tensor:
        return torch.arange(len(self.sizes)).repeat_interleave(self.sizes).to(device)

    def describe(self) -> dict[str, Any]:
        return {
            "case": self.name,
            "sets": len(self.sizes),
            "elements": self.elements,
            "largest": int(self.sizes.max()),
        }


def equal_sets(elements: int, size: int) -> Sets:
    """Nothing to pad: PyG's best case."""
    return Sets(f"{elements // size:,} x {size}", torch.full((elements // size,), size))


def heavy_tailed(num_sets: int, largest: int) -> Sets:
    """Sizes that are k or more with probability 1 / k, up to ``largest``, which one set has."""
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(num_sets, generator=generator, dtype=torch.float64)
    sizes = (1 / (1 - uniform)).clamp_max(largest).long()
    sizes[num_sets // 2] = largest
    return Sets(f"heavy-tailed, {num_sets:,} up to {largest:,}", sizes)


# Folds ------------------------------------------------------------------------------------------


class Fold:
    """A Binary-GRU fold of some sets, and its peers with the same weights."""

    def __init__(self, bench: Bench, sets: Sets, channels: int, name: str) -> None:
        torch.manual_seed(0)
        self.bench, self.sets, self.channels, self.name = bench, sets, channels, name
        dtype = FORMATS[name].dtype
        self.x = bench.elements(sets.elements, channels, dtype)
        self.ptr, self.index = sets.ptr(bench.device), sets.set_of_each(bench.device)
        self.lcm = pyg.LCMAggregation(channels, channels, project=False).to(bench.device, dtype)
        self.gru = pyg.GRUAggregation(channels, channels).to(bench.device, dtype)
        ours = LCMAggregation(channels, channels, project=False).to(bench.device, dtype)
        ours.load_state_dict(self.lcm.state_dict())
        self.monoid = ours.monoid
        self.plan = FoldPlan.from_ptr(self.ptr)
        _ = self.plan.tree, self.plan.level_ptr

    def fold(self, x: Tensor, plan: FoldPlan | None = None) -> Tensor:
        plan = FoldPlan.from_ptr(self.ptr) if plan is None else plan
        return segment_reduce(self.monoid, self.monoid.lift(x), plan=plan).value

    def call(self, what: str, mode: str) -> Callable[[], object]:
        """What is timed under this name."""
        if what in (LCM, GRU):
            module = self.lcm if what == LCM else self.gru
            module.train(mode != "forward")
            known = {
                "dim_size": len(self.sets.sizes),
                "max_num_elements": int(self.sets.sizes.max()),
            }
            parameters = list(module.parameters())
            return call_of(lambda x: module(x, self.index, **known), parameters, mode, self.x)
        planned = None if what == PLANNING else self.plan
        parameters = list(self.monoid.parameters())
        made = call_of(lambda x: self.fold(x, planned), parameters, mode, self.x)
        return with_backend({TORCH: "torch", COMPILED: "compile"}.get(what, "triton"), made)

    def measure(self, mode: str, rates: Rates, peers: Sequence[str]) -> dict[str, Any]:
        """Time it against its peers and against what the machine can do."""
        calls = {what: self.call(what, mode) for what in (PLANNED, PLANNING, *peers)}
        bound = rates.fold_bound(self.sets.pairs, self.channels, self.name, mode)
        with float32_products(self.name):
            seconds = timed(self.bench, calls)
        ours = median(seconds, PLANNED)
        return {
            **self.sets.describe(),
            "channels": self.channels,
            "format": self.name,
            "mode": mode,
            "seconds": seconds,
            "bound_seconds": bound["seconds"],
            "bound_by": bound["by"],
            "share_of_bound": ratio(bound["seconds"], ours),
            "share_of_bound_with_planning": ratio(bound["seconds"], median(seconds, PLANNING)),
            "times_faster": {what: ratio(median(seconds, what), ours) for what in peers},
            "largest_difference": self._differences(peers),
        }

    def _differences(self, peers: Sequence[str]) -> dict[str, float]:
        """Of values, in relation to the largest, where a peer computes the same."""
        same = [what for what in peers if what in (TORCH, COMPILED)]
        if LCM in peers and bool((self.sets.sizes == self.sets.sizes[0]).all()):
            same.append(LCM)
        found = {}
        with float32_products(self.name):
            ours: Any = self.call(PLANNED, "forward")()
            for what in same:
                try:
                    theirs: Any = self.call(what, "forward")()
                except Exception:  # timing it says why
                    continue
                error = (theirs.double() - ours.double()).abs().max() / ours.double().abs().max()
                found[what] = float(f"{float(error):.2g}")
        return found


def equal(
    bench: Bench,
    rates: Rates,
    channels: Sequence[int],
    peers: Sequence[str],
    sizes: Sequence[int],
    least: float = 10,
) -> Iterator[dict[str, Any]]:
    """Sets of one size; ``least`` seconds must be left for a case."""
    for d in channels:
        for name in bench.formats("bf16", "tf32"):
            for size in sizes:
                sets = equal_sets(bench.pick(ELEMENTS, 4 * size), size)
                if not bench.has(least, f"{sets.name}, {peers[-1]}, d = {d}, {name}"):
                    continue
                fold = Fold(bench, sets, d, name)
                for mode in MODES:
                    yield fold.measure(mode, rates, peers)


def tails(bench: Bench, rates: Rates) -> Iterator[dict[str, Any]]:
    """Sizes that PyG pads, and such as it cannot."""
    padded = heavy_tailed(bench.pick(4096, 6), bench.pick(LARGEST_PADDED, 12))
    too_large = heavy_tailed(bench.pick(2**18, 8), bench.pick(2**16, 20))
    for sets, peers in ((padded, (LCM, GRU, TORCH)), (too_large, (TORCH,))):
        for name in bench.formats("bf16", "tf32"):
            if not bench.has(15, f"{sets.name}, {name}"):
                continue
            fold = Fold(bench, sets, bench.pick(128, 16), name)
            for mode in MODES:
                yield fold.measure(mode, rates, peers)


# One long set -----------------------------------------------------------------------------------


def long_set(bench: Bench, rates: Rates) -> Iterator[dict[str, Any]]:
    """One set against cuDNN's GRU over it as a sequence."""
    n, d = bench.pick(10**6, 40), bench.pick(128, 16)
    for name in bench.formats("tf32", "bf16"):
        if not bench.has(40, f"one set, {name}"):
            continue
        fold = Fold(bench, Sets(f"one set of {n:,}", torch.tensor([n])), d, name)
        result = fold.measure("forward", rates, ())
        with counted_launches() as launches, float32_products(name):
            fold.call(PLANNED, "forward")()
        backward = fold.measure("forward_backward", rates, ())
        sequence, length = sequence_seconds(bench, fold.gru.gru, fold.x, name)
        whole = None if sequence is None else sequence * n / length
        yield {
            **result,
            "launches": launches[0],
            "forward_backward": backward,
            "gru_seconds": sequence,
            "gru_sequence_length": length,  # in proportion, where it was not all timed
            "gru_seconds_for_all": whole,
            "times_faster": {"cuDNN GRU": ratio(whole, median(result["seconds"], PLANNED))},
        }


def sequence_seconds(
    bench: Bench, gru: torch.nn.GRU, x: Tensor, name: str
) -> tuple[float | None, int]:
    """Seconds of a GRU over ``x``, or over its beginning if that is all there is time for."""
    gru.eval()
    part = x[: len(x) // 20].unsqueeze(0)
    with torch.no_grad(), float32_products(name):
        found = timed(bench, {"gru": lambda: gru(part)}, repeats=3)
        short = median(found, "gru")
        if short is None:
            bench.left_out.append(f"GRU over a set, {name}: {found['gru']['error']}")
            return None, len(x)
        if bench.has(25 * short + 10, f"GRU over a whole set, {name}"):
            try:  # once: it takes seconds
                return Stopwatch(bench.device)(lambda: gru(x.unsqueeze(0))), len(x)
            except Exception as error:
                bench.left_out.append(f"GRU over a whole set, {name}: {reason(error)}")
    return short, part.size(1)


@contextmanager
def counted_launches() -> Iterator[list[int]]:
    """Count launches of the fold's kernels."""
    count = [0]
    launch = Launch.__call__

    def counting(self: Launch) -> None:
        count[0] += 1
        launch(self)

    with patch.object(Launch, "__call__", counting):
        yield count


# Closed forms -----------------------------------------------------------------------------------

CLOSED: dict[str, tuple[Monoid, Callable[..., object]]] = {
    "sum": (Sum(), closed.segment_sum),
    "max": (Max(), closed.segment_max),
    "mean": (Mean(), closed.segment_mean),
    "softmax": (
        Softmax(),
        lambda x, s: closed.segment_softmax(x, s, torch.ones((), device=x.device)),
    ),
    "logsumexp": (LogSumExp(), closed.segment_logsumexp),
    "moments": (Moments(), closed.segment_moments),
}


def closed_forms(bench: Bench, rates: Rates) -> Iterator[dict[str, Any]]:
    """Reductions that are bound by memory."""
    # The sizes of 2**19 heavy-tailed sets add up to about 2**22 as well.
    tail = heavy_tailed(bench.pick(2**19, 8), bench.pick(2**12, 12))
    for sets in (equal_sets(bench.pick(2**22, 32), 16), tail):
        for name in bench.formats("fp32", "bf16"):
            x = bench.elements(sets.elements, bench.pick(64, 16), FORMATS[name].dtype)
            for form in CLOSED:
                if bench.has(4, f"{form} of {sets.name}, {name}"):
                    yield closed_form(bench, rates, sets, form, name, x)


def closed_form(
    bench: Bench, rates: Rates, sets: Sets, form: str, name: str, x: Tensor
) -> dict[str, Any]:
    """One of them."""
    monoid, reduce = CLOSED[form]
    ptr = sets.ptr(bench.device)
    segments = plan_segments(ptr, bound=int(sets.sizes.max()))
    calls: dict[str, Callable[[], object]] = {"ours": lambda: reduce(x, segments)}
    if form == "sum":
        calls["ours, planning"] = lambda: closed.segment_sum(x, plan_segments(ptr))
    peers = _peers(form, monoid, x, ptr, sets.set_of_each(bench.device), len(sets.sizes))
    seconds = timed(bench, {**calls, **peers}, budget=0.1)
    moved = (sets.elements + len(sets.sizes)) * x.size(1) * x.element_size()
    ours = median(seconds, "ours")
    return {
        **sets.describe(),
        "form": form,
        "channels": x.size(1),
        "format": name,
        "seconds": seconds,
        "share_of_copy": ratio(moved / rates.copy, ours),
        "times_faster": {what: ratio(median(seconds, what), ours) for what in peers},
    }


def _peers(
    form: str, monoid: Monoid, x: Tensor, ptr: Tensor, index: Tensor, num_sets: int
) -> dict[str, Callable[[], object]]:
    """Ways of torch and of torch_scatter to compute the same."""
    if form not in ("sum", "max", "mean"):
        return {"torch operators": lambda: monoid.segment(monoid.lift(x), index, num_sets)}
    wide = index.unsqueeze(1).expand_as(x)
    method = {"sum": "sum", "max": "amax", "mean": "mean"}[form]
    peers: dict[str, Callable[[], object]] = {
        "segment_reduce": lambda: torch.segment_reduce(x, form, offsets=ptr, axis=0, unsafe=True),
        "scatter_reduce": lambda: x.new_zeros(num_sets, x.size(1)).scatter_reduce_(
            0, wide, x, method, include_self=False
        ),
    }
    if form == "sum":
        peers["index_add"] = lambda: x.new_zeros(num_sets, x.size(1)).index_add_(0, index, x)
    if torch_scatter is not None:
        peers["torch_scatter"] = lambda: torch_scatter.segment_csr(x, ptr, reduce=form)
    return peers


# Memory -----------------------------------------------------------------------------------------


def memory(bench: Bench, rates: Rates) -> Iterator[dict[str, Any]]:
    """How far a training step's memory exceeds its elements."""
    for name in bench.formats("bf16", "tf32"):
        if not bench.has(10, f"memory, {name}"):
            continue
        sets = equal_sets(bench.pick(ELEMENTS, 64), 16)
        fold = Fold(bench, sets, bench.pick(128, 16), name)
        size = fold.x.numel() * fold.x.element_size()
        growth: dict[str, int | None] = {}
        for what in (PLANNED, PLANNING, TORCH, LCM):
            try:
                with float32_products(name):
                    growth[what] = peak_growth(bench, fold.call(what, "forward_backward"))
            except Exception as error:
                bench.left_out.append(f"memory of {what}, {name}: {reason(error)}")
        yield {
            **sets.describe(),
            "channels": fold.channels,
            "format": name,
            "input_bytes": size,
            "peak_growth_bytes": growth,
            # What comes on top of the elements themselves.
            "growth_over_input": {what: ratio(grown, size) for what, grown in growth.items()},
        }


# A layer ----------------------------------------------------------------------------------------


def layer(bench: Bench, rates: Rates) -> Iterator[dict[str, Any]]:
    """A SAGE layer that reads node features in place, against one that writes messages."""
    nodes, edges = bench.pick(200_000, 20), bench.pick(2_000_000, 60)
    d = bench.pick(128, 16)
    torch.manual_seed(0)
    uniform = torch.rand(edges, dtype=torch.float64)
    targets = torch.randperm(nodes)[(nodes * uniform**3).long()]  # some nodes have many neighbours
    sources = torch.randint(nodes, (edges,))
    edge_index = torch.stack([sources, targets]).to(bench.device)
    for name in bench.formats("tf32", "bf16"):
        x = bench.elements(nodes, d, FORMATS[name].dtype)
        made = {what: module.to(x.device, x.dtype) for what, module in layers(d).items()}
        for mode in MODES:
            if not bench.has(10, f"layer, {name}, {mode}"):
                continue
            calls = {
                what: with_backend(
                    "triton", call_of(module, list(module.parameters()), mode, x, edge_index)
                )
                for what, module in made.items()
            }
            with float32_products(name):
                seconds = timed(bench, calls)
                peaks = {
                    what: peak_growth(bench, call) if "error" not in seconds[what] else None
                    for what, call in calls.items()
                }
            yield {
                "nodes": nodes,
                "edges": edges,
                "largest": int(torch.bincount(targets).max()),
                "channels": d,
                "format": name,
                "mode": mode,
                "seconds": seconds,
                "peak_growth_bytes": peaks,
                "times_faster_in_place": ratio(
                    median(seconds, "messages"), median(seconds, "in place")
                ),
                "peak_in_place_over_messages": ratio(peaks["in place"], peaks["messages"]),
            }


PARTS: dict[str, Callable[[Bench, Rates], Iterator[dict[str, Any]]]] = {
    "equal": lambda bench, rates: equal(
        bench, rates, [bench.pick(128, 16)], (LCM, GRU, TORCH), (16, 128)[: bench.pick(2, 1)]
    ),
    "heavy_tailed": tails,
    "long_set": long_set,
    "closed_forms": closed_forms,
    "memory": memory,
    "layer": layer,
    "equal_64_and_256": lambda bench, rates: equal(
        bench, rates, [64, 256][: bench.pick(2, 0)], (LCM, GRU, TORCH), (16, 128)
    ),
    "compiled": lambda bench, rates: equal(
        bench, rates, [128][: bench.pick(1, 0)], (TORCH, COMPILED), (16,), least=60
    ),
}
"""What is timed, the most important first. Sizes that the interpreter cannot do are left out."""
