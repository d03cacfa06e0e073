"""The fold in Triton, in its interpreter, against the reference in float64."""

from __future__ import annotations

import tempfile
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from lcm_graph.kernels.binary_gru import (
    reference,
    triton_launch,
    triton_schedule,
    triton_sums,
)
from lcm_graph.kernels.binary_gru.triton_fold import fold, fold_backward
from lcm_graph.kernels.binary_gru.weights import Weights
from lcm_graph.kernels.tree import Tree
from lcm_graph.reduce.plan import FoldPlan

MANY = [0, 1, 2, 3, 0, 16, 17, 5, 33, 1]
HUB = [300, 2, 7, 1]
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 4e-3,
    torch.bfloat16: 4e-2,
}


class Problem(NamedTuple):
    x: Tensor
    tree: Tree
    weights: Weights
    grad_roots: Tensor

    def to(self, dtype: torch.dtype) -> Problem:
        weights = Weights(*(w.to(dtype) for w in self.weights))
        return Problem(self.x.to(dtype), self.tree, weights, self.grad_roots.to(dtype))


def make(sizes: list[int], channels: int, dtype: torch.dtype = torch.float32) -> Problem:
    index = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes, dtype=torch.int64))
    index = index[torch.randperm(index.numel())]
    tree = FoldPlan.from_index(index, len(sizes)).tree
    return Problem(
        torch.randn(index.numel(), channels, dtype=dtype),
        tree,
        make_weights(channels, dtype),
        torch.randn(tree.roots.numel(), channels, dtype=dtype),
    )


def make_weights(channels: int, dtype: torch.dtype = torch.float32) -> Weights:
    shapes = [(2 * channels, channels)] * 3 + [(2 * channels,)] * 2
    return Weights(*(torch.randn(shape, dtype=dtype) / channels**0.5 for shape in shapes))


def solve(problem: Problem, **how: Any) -> dict[str, Tensor]:
    x, tree, weights, grad_roots = problem
    nodes = fold(x, tree, weights)
    values = nodes.clone()
    grad_x, grads = fold_backward(x, tree, weights, nodes, grad_roots, **how)
    return {"nodes": values, "x": grad_x, **grads._asdict()}


def expected(problem: Problem) -> dict[str, Tensor]:
    x, tree, weights, grad_roots = problem.to(torch.float64)
    nodes = reference.fold(x, tree, weights)
    grad_x, grads = reference.fold_backward(x, tree, weights, nodes, grad_roots)
    return {"nodes": nodes, "x": grad_x, **grads._asdict()}


def assert_close(found: dict[str, Tensor], problem: Problem) -> None:
    """Equal up to rounding, in relation to the largest value of a tensor."""
    for name, value in expected(problem).items():
        assert found[name].dtype == problem.x.dtype
        assert found[name].shape == value.shape
        error = (found[name] - value).abs().max() if value.numel() else torch.tensor(0.0)
        scale = value.abs().max() if value.numel() else 1.0
        assert error <= TOLERANCE[problem.x.dtype] * scale, (name, error / scale)


def assert_same_bits(found: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    for name, value in found.items():
        assert torch.equal(value, other[name]), name


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_schedule, "GROUP_PAIRS", 8)


# Values and gradients --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "dtype"),
    [
        (1, torch.float32),
        (16, torch.float32),
        (20, torch.float64),
        (33, torch.float32),
        (64, torch.float32),
        (20, torch.float16),
        (33, torch.bfloat16),
    ],
)
def test_values_and_gradients(channels, dtype):
    problem = make(MANY, channels, dtype)
    assert_close(solve(problem), problem)


def test_groups_of_subtrees(small_groups):
    problem = make(MANY, 20)
    steps = triton_schedule.schedule(problem.tree, 20)
    assert max(step.bounds.size(1) for step in steps if step.bounds is not None) > 2
    assert_close(solve(problem, steps=steps), problem)


def test_a_large_set_among_small_ones(monkeypatch):
    monkeypatch.setattr(triton_schedule, "GROUP_PAIRS", 32)
    problem = make(HUB, 16)
    assert_close(solve(problem), problem)


def test_a_level_a_launch(monkeypatch):
    problem = make(MANY, 20)
    joined = solve(problem)
    monkeypatch.setattr(triton_schedule, "JOIN_PAIRS", 0)
    alone = solve(problem)
    assert_close(alone, problem)
    assert_same_bits(alone, joined)


def test_gradcheck():
    x, tree, weights, _ = make([3, 0, 1, 4], 2, torch.float64)

    class Fold(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, *weights: Tensor) -> Tensor:
            nodes = fold(x, tree, Weights(*weights))
            ctx.save_for_backward(x, nodes, *weights)
            return nodes[tree.roots]

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
            x, nodes, *weights = ctx.saved_tensors
            grad_x, grad = fold_backward(x, tree, Weights(*weights), nodes.clone(), grads[0])
            return grad_x, *grad

    inputs = [t.requires_grad_() for t in (x, *weights)]
    assert torch.autograd.gradcheck(Fold.apply, inputs, fast_mode=True)


@pytest.mark.parametrize("sizes", [[], [0, 0], [1], [1, 0, 1]], ids=str)
def test_nothing_to_combine(sizes):
    problem = make(sizes, 3)
    assert_close(solve(problem), problem)


def test_scratch_space_that_holds_few_pairs(monkeypatch):
    problem = make(MANY, 5)
    monkeypatch.setattr(triton_schedule, "JOIN_PAIRS", 8)
    monkeypatch.setattr(triton_sums, "SCRATCH_BYTES", 12 * 5 * 4 * 19)
    monkeypatch.setattr(triton_launch, "SPLIT_PAIRS", 16)
    assert_close(solve(problem), problem)


def test_rows_that_lie_apart():
    problem = make([2, 5, 0, 3], 5)
    wide = torch.randn(problem.x.size(0), 9)
    wide[:, 2:7] = problem.x
    assert_same_bits(solve(problem._replace(x=wide[:, 2:7])), solve(problem))


def test_elements_in_several_sets():
    problem = make(MANY, 5)
    rows = torch.randint(12, (problem.x.size(0),))
    tree, bottom = problem.tree, problem.tree.level_ptr[1]
    left, right = (
        torch.cat([rows[pairs[:bottom]], pairs[bottom:]]) for pairs in (tree.left, tree.right)
    )
    tree = tree._replace(left=left, right=right, singles=rows[tree.singles])
    problem = problem._replace(x=torch.randn(14, 5), tree=tree)  # the last two are in no set
    found = solve(problem, distinct=False)
    assert_close(found, problem)
    assert not found["x"][12:].any()
    assert_same_bits(solve(problem, distinct=False), found)


def test_elements_in_no_set():
    problem = make([2, 3], 4)
    problem = problem._replace(x=torch.cat([problem.x, torch.randn(2, 4)]))
    assert_close(solve(problem), problem)


# Bits ------------------------------------------------------------------------------------------


def test_a_set_does_not_depend_on_its_company(small_groups):
    problem = make(MANY, 20)
    order = torch.randperm(problem.x.size(0))
    index = torch.arange(len(MANY)).repeat_interleave(torch.tensor(MANY))[order]
    tree = FoldPlan.from_index(index, len(MANY)).tree
    whole = solve(problem._replace(tree=tree))
    occupied = [s for s, size in enumerate(MANY) if size]
    for s in (3, 6, 7, 8):
        root = occupied.index(s)
        mine = index == s
        plan = FoldPlan.from_ptr(torch.tensor([0, MANY[s]]))
        alone = problem._replace(
            x=problem.x[mine], tree=plan.tree, grad_roots=problem.grad_roots[root, None]
        )
        found = solve(alone)
        assert torch.equal(found["nodes"][plan.tree.roots[0]], whole["nodes"][tree.roots[root]])
        assert torch.equal(found["x"], whole["x"][mine])


def test_not_a_number_stays_in_its_set(small_groups):
    x, _, weights, _ = make(MANY, 20)
    tree = FoldPlan.from_index(torch.arange(len(MANY)).repeat_interleave(torch.tensor(MANY))).tree
    clean = fold(x, tree, weights)[tree.roots]
    x[10] = torch.nan  # of the set of 16, the fourth that is not empty
    found = fold(x, tree, weights)[tree.roots]
    others = torch.arange(found.size(0)) != 3
    assert found[3].isnan().all()
    assert torch.equal(found[others], clean[others])


def test_order_of_operands():
    problem = make([2, 17, 3], 20)
    tree = problem.tree
    swapped = problem._replace(tree=tree._replace(left=tree.right, right=tree.left))
    found, other = solve(problem), solve(swapped)
    assert torch.equal(found["nodes"], other["nodes"])
    assert torch.equal(found["x"], other["x"])


@pytest.mark.parametrize("distinct", [True, False])
def test_memory_that_is_not_written(small_groups, distinct):
    problem = make([2, 17, 0, 1, 5], 3)
    first = solve(problem, distinct=distinct)
    torch.use_deterministic_algorithms(True)  # fills new memory with NaN
    try:
        assert torch.empty(1).isnan()
        second = solve(problem, distinct=distinct)
    finally:
        torch.use_deterministic_algorithms(False)
    assert_same_bits(first, second)


# Offsets and launches --------------------------------------------------------------------------


def test_rows_far_apart(tmp_path):
    problem = make([2, 3], 3)
    stride = 2**31 // 4 + 5  # the last row begins past 2 ** 31 elements
    with tempfile.NamedTemporaryFile(dir=tmp_path) as file:  # sparse: takes up a few pages
        size = 4 * stride + 3
        file.truncate(4 * size)
        flat = torch.from_file(file.name, shared=True, size=size)
        far = flat.as_strided((5, 3), (stride, 1))
        far.copy_(problem.x)
        assert torch.equal(
            fold(far, problem.tree, problem.weights),
            fold(problem.x, problem.tree, problem.weights),
        )


def test_a_hub_takes_few_launches():
    tree = FoldPlan.from_ptr(torch.tensor([0, 10**6])).tree
    assert len(triton_schedule.schedule(tree, 128)) <= 10
    assert len(triton_schedule.schedule(tree, 512)) == 20


def test_launches_of_a_small_batch(monkeypatch):
    count = 0
    launch = triton_launch.Launch.__call__

    def counted(self: triton_launch.Launch) -> None:
        nonlocal count
        count += 1
        launch(self)

    monkeypatch.setattr(triton_launch.Launch, "__call__", counted)
    problem = make(MANY, 20)
    fold(problem.x, problem.tree, problem.weights)
    assert count == 2  # level 0, and those above it
    solve(problem)
    assert count == 2 + 2 + 4  # level 0 in two steps, those above, the weights


@pytest.mark.parametrize("group_pairs", [1, 2, 8])
@pytest.mark.parametrize("level", [1, 2])
def test_groups_are_whole_subtrees(monkeypatch, group_pairs, level):
    monkeypatch.setattr(triton_schedule, "GROUP_PAIRS", group_pairs)
    monkeypatch.setattr(triton_schedule, "JOIN_PAIRS", 10**9)
    sizes = torch.cat([torch.randint(0, 70, (50,)), torch.tensor([0, 1000, 0, 1, 513])])
    tree = FoldPlan.from_ptr(torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)])).tree
    stop = min(level + group_pairs.bit_length(), len(tree.level_ptr) - 1)
    bounds = triton_schedule.group_bounds(tree, level, stop)
    first = tree.level_ptr[level]
    group = torch.full((tree.left.numel(),), -1)
    for begin, at in zip(bounds, range(level, stop), strict=True):
        assert begin[0] == tree.level_ptr[at] and begin[-1] == tree.level_ptr[at + 1]
        lengths = begin.diff()
        assert (lengths >= 0).all()
        assert lengths.max() < 2 * group_pairs
        group[tree.level_ptr[at] : tree.level_ptr[at + 1]] = torch.arange(
            lengths.numel()
        ).repeat_interleave(lengths)
    pairs = torch.arange(tree.level_ptr[level + 1], tree.level_ptr[stop])
    for operand in (tree.left, tree.right):
        below = operand[pairs] - tree.singles.numel()  # the pair that made it
        joined = below >= first
        assert torch.equal(group[below[joined]], group[pairs[joined]])


@pytest.mark.parametrize(("setting", "precision"), [("highest", "ieee"), ("high", "tf32")])
def test_precision_is_torch_s_own(setting, precision):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(setting)
    try:
        assert triton_launch.config(64, torch.float32).constants["PRECISION"] == precision
        assert triton_launch.config(64, torch.float32, "ieee").constants["PRECISION"] == "ieee"
    finally:
        torch.set_float32_matmul_precision(before)
