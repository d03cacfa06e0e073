"""Whether the Triton kernels, compiled for the GPU at hand, answer what they should."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.gpu_measure import FORMATS, Bench, float32_products, reason
from lcm_graph import FoldPlan, segment_reduce
from lcm_graph.kernels import backend
from lcm_graph.kernels.binary_gru import reference
from lcm_graph.kernels.binary_gru.triton_fold import fold, fold_backward
from lcm_graph.kernels.binary_gru.triton_schedule import Step, schedule
from lcm_graph.kernels.binary_gru.weights import Weights
from lcm_graph.kernels.segment import triton_closed_forms as closed
from lcm_graph.kernels.segment.tasks import Segments
from lcm_graph.kernels.segment.tasks import plan as plan_segments
from lcm_graph.kernels.tree import Tree
from lcm_graph.monoids import BinaryGRU, LogSumExp, Max, Mean, Min, Moments, Monoid, Softmax, Sum
from lcm_graph.monoids.moments import MomentsState
from lcm_graph.monoids.softmax import SoftmaxState

TOLERANCES = {
    "fold": {"fp32": 1e-5, "tf32": 5e-3, "bf16": 3e-2, "fp16": 5e-3},
    # Half precision is accumulated and kept in float32 here.
    "closed forms": {"fp32": 1e-5, "bf16": 1e-5, "fp16": 1e-5},
}
"""Of the largest error, in relation to the largest value of a result or of a gradient."""

CHANNELS = (128, 64, 512, 256, 100, 33, 16)
SIZES = (0, 1, 2, 3, 16, 17)
HUB = 20_000
FAR_CHANNELS = 128


class Task(NamedTuple):
    """Something to check."""

    kind: str  # "fold", "closed forms" or "far rows"
    name: str  # of a format
    channels: int
    device: str
    quick: bool

    def __str__(self) -> str:
        return f"{self.kind}, {self.name}, d = {self.channels}"


class Findings:
    """Errors, and what is wrong."""

    def __init__(self, task: Task) -> None:
        self.tolerance = TOLERANCES.get(task.kind, {}).get(task.name, 0.0)
        self.errors: dict[str, float] = {}
        self.failures: list[str] = []
        self.skipped: list[str] = []
        self.notes: list[str] = []

    def close(self, what: str, found: Tensor, expected: Tensor) -> None:
        """Equal up to rounding."""
        if found.shape != expected.shape:
            self.failures.append(f"{what}: shape {tuple(found.shape)}")
        elif expected.numel():
            scale = expected.abs().max().clamp_min(1e-30)
            error = float((found.double() - expected).abs().max() / scale)
            self.errors[what] = max(error, self.errors.get(what, 0.0))
            if not error <= self.tolerance:  # NaN is no number to compare
                self.failures.append(f"{what}: error {error:.1e} > {self.tolerance:.0e}")

    def same(self, what: str, found: Tensor, expected: Tensor) -> None:
        """Equal bit for bit."""
        if not torch.equal(found, expected):
            self.failures.append(f"{what}: other bits")


def run(bench: Bench, seconds: float, workers: int | None = None) -> dict[str, Any]:
    """Check everything, in several processes since compiling kernels takes most of the time.

    Args:
        bench: where.
        seconds: what is not done by then is given up, and named in ``unfinished``.
        workers: how many processes (default: one to two cores; a GPU that only one process may use
            asks for 1).
    """
    tasks = _tasks(bench)
    start = time.monotonic()
    workers = workers or min(8, (os.cpu_count() or 1) // 2)
    if bench.device.type != "cuda" or bench.quick or workers < 2:
        results = []
        for task in tasks:
            late = time.monotonic() - start > seconds
            results.append(_unfinished(task) if late else check(task))
    else:
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            handles = [pool.apply_async(check, (task,)) for task in tasks]
            results = []
            for task, handle in zip(tasks, handles, strict=True):
                try:
                    left = seconds - (time.monotonic() - start)
                    results.append(handle.get(max(left, 0.01)))
                except multiprocessing.TimeoutError:
                    results.append(_unfinished(task))
    largest: dict[str, dict[str, float]] = {}
    for task, result in zip(tasks, results, strict=True):
        here = largest.setdefault(task.kind, {})
        for error in result["errors"].values():
            here[task.name] = max(error, here.get(task.name, 0.0))
    return {
        "passed": not any(result["failures"] for result in results),
        "seconds": round(time.monotonic() - start, 1),
        "tolerances": TOLERANCES,
        "largest_errors": largest,
        "unfinished": [result["check"] for result in results if result["unfinished"]],
        "checks": results,
    }


def check(task: Task) -> dict[str, Any]:
    """One check; whatever goes wrong is a failure."""
    torch.manual_seed(0)
    start = time.monotonic()
    findings = Findings(task)
    try:
        if task.device != "cpu":
            torch.cuda.set_device(task.device)
        CHECKS[task.kind](task, findings)
    except Exception as error:
        findings.failures.append(reason(error))
    return {
        "check": str(task),
        "failures": findings.failures,
        "skipped": findings.skipped,
        "notes": findings.notes,
        "unfinished": False,
        "errors": {name: float(f"{error:.2g}") for name, error in findings.errors.items()},
        "seconds": round(time.monotonic() - start, 1),
    }


def _unfinished(task: Task) -> dict[str, Any]:
    nothing: dict[str, Any] = {"failures": [], "skipped": [], "notes": [], "errors": {}}
    return {"check": str(task), "unfinished": True, **nothing}


def _tasks(bench: Bench) -> list[Task]:
    cpu = bench.device.type == "cpu"
    channels = ((16,) if cpu else (64, 128)) if bench.quick else CHANNELS
    names = ("fp32", "bf16") if bench.quick and cpu else tuple(FORMATS)
    where = str(bench.device), bench.quick
    tasks = [Task("far rows", "bf16", FAR_CHANNELS, *where)]
    tasks += [Task("fold", name, d, *where) for d in channels for name in names]
    for name in TOLERANCES["closed forms"]:
        if name in names[:1] or not cpu:
            tasks.append(Task("closed forms", name, channels[0], *where))
    if not bench.quick:
        tasks.append(Task("closed forms", "fp32", 33, *where))
    return tasks


# The fold ---------------------------------------------------------------------------------------


class Problem(NamedTuple):
    """Elements, their sets, weights, and the gradient of the results."""

    x: Tensor
    tree: Tree
    weights: Weights
    grad_roots: Tensor

    def doubled(self) -> Problem:
        """In float64."""
        weights = Weights(*(w.double() for w in self.weights))
        return Problem(self.x.double(), self.tree, weights, self.grad_roots.double())


def solve(problem: Problem, precision: str | None, **how: Any) -> dict[str, Tensor]:
    """Values and gradients by Triton."""
    x, tree, weights, grad_roots = problem
    nodes = fold(x, tree, weights, precision, steps=how.get("steps"))
    values = nodes.clone()
    grad_x, grads = fold_backward(x, tree, weights, nodes, grad_roots, precision, **how)
    return {"nodes": values, "roots": values[tree.roots], "x": grad_x, **grads._asdict()}


def expected(problem: Problem) -> dict[str, Tensor]:
    """The same by the reference in float64."""
    x, tree, weights, grad_roots = problem.doubled()
    nodes = reference.fold(x, tree, weights)
    grad_x, grads = reference.fold_backward(x, tree, weights, nodes, grad_roots)
    return {"nodes": nodes, "roots": nodes[tree.roots], "x": grad_x, **grads._asdict()}


def poison(device: torch.device) -> None:
    """Fill the memory that the next tensors are given with NaN."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        sizes = [2**29, *[2**20] * 8, *[2**16] * 32, *[2**9] * 256]
        held = [torch.full((size // 4,), torch.nan, device=device) for size in sizes]
        del held


def check_fold(task: Task, findings: Findings) -> None:
    device, (dtype, precision) = torch.device(task.device), FORMATS[task.name]
    d = task.channels
    sizes = torch.tensor([*SIZES, _hub(task)])
    index = torch.arange(len(sizes)).repeat_interleave(sizes)
    index = index[torch.randperm(index.numel())].to(device)
    plan = FoldPlan.from_index(index, len(sizes))
    x = torch.randn(index.numel(), d, device=device).to(dtype)
    weights = _weights(d, dtype, device)
    grad_roots = torch.randn(plan.tree.roots.numel(), d, device=device).to(dtype)
    problem = Problem(x, plan.tree, weights, grad_roots)

    first = solve(problem, precision)
    for name, value in expected(problem).items():
        findings.close(name, first[name], value)

    poison(device)
    for name, value in solve(problem, precision).items():
        findings.same(f"again, in memory full of NaN: {name}", value, first[name])

    ptr = plan.tree.level_ptr
    levels = [Step(a, b, None, at == 0) for at, (a, b) in enumerate(pairwise(ptr))]
    if any(step.bounds is not None for step in schedule(plan.tree, d)):
        apart = solve(problem, precision, steps=levels)
        for name in ("nodes", "x"):
            findings.same(f"level by level: {name}", apart[name], first[name])

    occupied = sizes.nonzero().flatten().tolist()
    for root, s in enumerate(occupied):
        if sizes[s] < 3 or (task.quick and 3 < sizes[s] < _hub(task)):
            continue
        mine = index == s
        tree = FoldPlan.from_ptr(torch.tensor([0, int(sizes[s])], device=device)).tree
        alone = Problem(x[mine], tree, weights, grad_roots[root, None])
        found = solve(alone, precision)
        findings.same(f"alone, {sizes[s]}: value", found["roots"][0], first["roots"][root])
        findings.same(f"alone, {sizes[s]}: gradient", found["x"], first["x"][mine])

    if not task.quick:
        tree = plan.repeat(2).tree
        twice = Problem(x.repeat(2, 1), tree, weights, grad_roots.repeat(2, 1))
        found = solve(twice, precision)
        for name in ("roots", "x"):
            findings.same(f"twice in a batch: {name}", found[name], first[name].repeat(2, 1))

    if not task.quick:  # nothing promises these bits: gradients may be rounded in another order
        tree = plan.tree._replace(left=plan.tree.right, right=plan.tree.left)
        found = solve(problem._replace(tree=tree), precision)
        for name in ("nodes", "x"):
            if not torch.equal(found[name], first[name]):
                findings.notes.append(f"operands swapped: {name}: other bits")

    _check_gathered(task, findings, plan, weights, grad_roots)
    if d in (16, 64):
        _check_operator(task, findings, plan)


def _check_gathered(
    task: Task, findings: Findings, plan: FoldPlan, weights: Weights, grad_roots: Tensor
) -> None:
    """Rows that occur several times, and some that do not."""
    device, (dtype, precision) = torch.device(task.device), FORMATS[task.name]
    rows = plan.num_elements // 3
    source = torch.randint(rows, (plan.num_elements,), device=device)
    tree = plan.gather(source, rows + 2).tree
    x = torch.randn(rows + 2, task.channels, device=device).to(dtype)
    problem = Problem(x, tree, weights, grad_roots)
    found = solve(problem, precision, distinct=False)
    for name, value in expected(problem).items():
        findings.close(f"gathered: {name}", found[name], value)
    if not task.quick:
        poison(device)
        for name, value in solve(problem, precision, distinct=False).items():
            findings.same(f"gathered, again: {name}", value, found[name])


def _check_operator(task: Task, findings: Findings, plan: FoldPlan) -> None:
    """As users reach it: through autograd, with the parameters of a cell."""
    device, (dtype, _) = torch.device(task.device), FORMATS[task.name]
    monoid = BinaryGRU(task.channels).to(device, dtype)
    exact = BinaryGRU(task.channels).to(device, torch.float64)
    exact.load_state_dict(monoid.state_dict())
    x = torch.randn(plan.num_elements, task.channels, device=device).to(dtype)
    grad = torch.randn(plan.num_sets, task.channels, device=device).to(dtype)
    results = []
    for operator, name, t in ((monoid, "triton", x), (exact, "torch", x.double())):
        leaf = t.requires_grad_()
        with backend(name), float32_products(task.name):
            out = operator.lower(segment_reduce(operator, operator.lift(leaf), plan=plan))
            wanted = {"x": leaf, **dict(operator.named_parameters())}
            grads = torch.autograd.grad(out, list(wanted.values()), grad.to(t.dtype))
        results.append({"value": out.detach(), **dict(zip(wanted, grads, strict=True))})
    for key, value in results[1].items():
        findings.close(f"operator: {key}", results[0][key], value)


def _weights(channels: int, dtype: torch.dtype, device: torch.device) -> Weights:
    shapes = [(2 * channels, channels)] * 3 + [(2 * channels,)] * 2
    drawn = (torch.randn(shape, device=device) / channels**0.5 for shape in shapes)
    return Weights(*(w.to(dtype) for w in drawn))


def _hub(task: Task) -> int:
    return (40 if task.device == "cpu" else 2000) if task.quick else HUB


# Closed forms -----------------------------------------------------------------------------------

MOMENTS = Moments(statistics=("mean", "var"))
WIDE = torch.float32
CLOSED: dict[str, tuple[Monoid, Callable[[Tensor, Segments], Tensor]]] = {
    "sum": (Sum(), lambda x, s: closed.segment_sum(x, s, WIDE)),
    "mean": (Mean(), lambda x, s: closed.segment_mean(x, s, WIDE)[0]),
    "max": (Max(), lambda x, s: Max().lower(closed.segment_max(x, s))),
    "min": (Min(), lambda x, s: Min().lower(closed.segment_min(x, s))),
    "moments": (
        MOMENTS,
        lambda x, s: MOMENTS.lower(MomentsState(*closed.segment_moments(x, s, WIDE))),
    ),
    "logsumexp": (
        LogSumExp(),
        lambda x, s: LogSumExp().lower(closed.segment_logsumexp(x, s, WIDE)),
    ),
    "softmax": (
        Softmax(),
        lambda x, s: Softmax().lower(
            SoftmaxState(*closed.segment_softmax(x, s, x.new_ones((), dtype=WIDE), WIDE))
        ),
    ),
}


def check_closed_forms(task: Task, findings: Findings) -> None:
    device, dtype = torch.device(task.device), FORMATS[task.name].dtype
    sizes = torch.tensor([*SIZES, 65, _hub(task)])
    ptr = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)]).to(device)
    n = int(sizes.sum())
    segments = plan_segments(ptr, torch.randperm(n).to(device))
    assert segments.permutation is not None
    x = torch.randn(n, task.channels, device=device).to(dtype)
    index = torch.arange(len(sizes)).repeat_interleave(sizes).to(device)
    elements = x.double()[segments.permutation]
    for name, (monoid, reduce) in CLOSED.items():
        found = reduce(x, segments)
        exact = monoid.segment(monoid.lift(elements), index, len(sizes))
        findings.close(name, found, monoid.lower(exact))
        if not task.quick:
            poison(device)
            findings.same(f"{name}, again", reduce(x, segments), found)


# More than 2 ** 31 numbers ----------------------------------------------------------------------


def check_far_rows(task: Task, findings: Findings) -> None:
    """Rows that begin beyond 2 ** 31 numbers answer bit for bit as when they stand alone."""
    device, small_one = torch.device(task.device), task.quick
    d, size, few = (16, 4, 2) if small_one else (FAR_CHANNELS, 16, 4)
    rows = 5 * size if small_one else 2**31 // d + 256 * size
    need = 5 * rows * d * 2
    if device.type == "cuda" and torch.cuda.mem_get_info(device)[0] < need:
        findings.skipped.append(f"needs {need / 2**30:.0f} GiB of free memory")
        return
    x = torch.empty(rows, d, device=device, dtype=torch.bfloat16).normal_()
    weights = _weights(d, x.dtype, device)
    ptr = torch.arange(0, rows + 1, size, device=device)
    last, few_ptr = x[-few * size :].clone(), ptr[: few + 1]
    total = closed.segment_sum(x, plan_segments(ptr))
    findings.same("sum", total[-few:], closed.segment_sum(last, plan_segments(few_ptr)))
    near = last.double().view(few, size, d).sum(1)
    if not torch.allclose(total[-few:].double(), near, rtol=0.01, atol=0.01):
        findings.failures.append("sum: other values")
    del total

    plan = FoldPlan.from_ptr(ptr)
    tree, small = plan.tree, FoldPlan.from_ptr(few_ptr).tree
    roots = fold(x, tree, weights)[tree.roots[-few:]]
    findings.same("fold", roots, fold(last, small, weights)[small.roots])
    del plan, tree

    source = rows - 1 - torch.arange(few * size, device=device) * 2
    sets = FoldPlan.from_ptr(few_ptr)
    grad = torch.randn(few, d, device=device).to(x.dtype)
    far = solve(Problem(x, sets.gather(source, rows).tree, weights, grad), None, distinct=False)
    here = solve(Problem(x[source], sets.tree, weights, grad), None, distinct=False)
    findings.same("gathered fold", far["nodes"], here["nodes"])
    findings.same("gathered fold: gradient", far["x"][source], here["x"])
    for name in Weights._fields:
        findings.same(f"gathered fold: {name}", far[name], here[name])


CHECKS: dict[str, Callable[[Task, Findings], None]] = {
    "fold": check_fold,
    "closed forms": check_closed_forms,
    "far rows": check_far_rows,
}
