"""The fold with a Binary-GRU in Triton, and its backward pass; :mod:`reference` says what it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from lcm_graph.kernels.binary_gru import triton_kernels as kernels
from lcm_graph.kernels.binary_gru.triton_launch import Config, Launch, capability, config
from lcm_graph.kernels.binary_gru.triton_schedule import Step, runs_down, schedule
from lcm_graph.kernels.binary_gru.triton_sums import LeafGradients, WeightGradients
from lcm_graph.kernels.binary_gru.weights import Weights
from lcm_graph.kernels.tree import Tree


@torch.no_grad()
def fold(
    x: Tensor,
    tree: Tree,
    weights: Weights,
    precision: str | None = None,
    *,
    steps: Sequence[Step] | None = None,
) -> Tensor:
    """The buffer ``nodes [tree.num_nodes, d]`` of the fold of ``x [n, d]``; see :class:`Tree`.

    Args:
        x: elements, of any float dtype; only their channels must lie side by side.
        tree: the sets.
        weights: of the same dtype (others are converted).
        precision: see :func:`~lcm_graph.kernels.binary_gru.triton_launch.config`.
        steps: :func:`~lcm_graph.kernels.binary_gru.triton_schedule.schedule` of the tree, where a
            caller keeps it (default: worked out here).
    """
    x = _rows(x)
    steps = schedule(tree, x.size(1)) if steps is None else steps
    nodes = torch.empty(tree.num_nodes, x.size(1), dtype=x.dtype, device=x.device)
    torch.index_select(x, 0, tree.singles, out=nodes[: tree.singles.numel()])
    how = config(x.size(1), x.dtype, precision, capability(x.device))
    for launch in _forward(x, tree, _like(weights, x), nodes, steps, how):
        launch()
    return nodes


@torch.no_grad()
def fold_backward(
    x: Tensor,
    tree: Tree,
    weights: Weights,
    nodes: Tensor,
    grad_roots: Tensor,
    precision: str | None = None,
    *,
    distinct: bool = True,
    steps: Sequence[Step] | None = None,
) -> tuple[Tensor, Weights]:
    """The gradients of ``x`` and of the weights: the same bits every time.

    Args:
        x: elements ``[n, d]``.
        tree: the sets.
        weights: as in :func:`fold`.
        nodes: what :func:`fold` returned; overwritten.
        grad_roots: ``[occupied sets, d]``, the gradient of ``nodes[tree.roots]``.
        precision: as in :func:`fold`.
        distinct: whether no row of ``x`` occurs more than once in the tree.
        steps: as in :func:`fold`.
    """
    x = _rows(x)
    steps = schedule(tree, x.size(1)) if steps is None else steps
    how = config(x.size(1), x.dtype, precision, capability(x.device))
    leaves = LeafGradients(x, tree, distinct)
    sums = WeightGradients(nodes, steps, how)
    nodes.index_copy_(0, tree.roots, grad_roots.to(nodes.dtype))
    for launch in _backward(x, tree, _like(weights, x), nodes, steps, how, leaves, sums):
        launch()
    return leaves.finish(nodes, how), sums.finish(weights)


def configurations(
    channels: int, dtype: torch.dtype, precision: str | None, capability: int
) -> list[Launch]:
    """One launch of every kernel, as :func:`fold` and :func:`fold_backward` would launch it."""
    # A set of 9 elements has levels to join; its last element is another set as well.
    x = torch.empty(9, channels, dtype=dtype)
    left = torch.tensor([0, 2, 4, 6, 2, 4, 6, 8])
    tree = Tree(
        left,
        left + 1,
        singles=torch.tensor([8, 8]),
        roots=torch.tensor([9, 1]),
        level_ptr=(0, 4, 6, 7, 8),
        sizes=torch.tensor([9, 1]),
    )
    square, bias = x.new_empty(2 * channels, channels), x.new_empty(2 * channels)
    weights = Weights(square, square, square, bias, bias)
    nodes = x.new_empty(tree.num_nodes, channels)
    steps, how = schedule(tree, channels), config(channels, dtype, precision, capability)
    leaves, sums = LeafGradients(x, tree, distinct=False), WeightGradients(nodes, steps, how)
    launches = [
        *_forward(x, tree, weights, nodes, steps, how),
        *_backward(x, tree, weights, nodes, steps, how, leaves, sums),
        leaves.sum_up(torch.empty_like(x), how),
    ]
    return list({launch.kernel: launch for launch in launches}.values())


def _rows(x: Tensor) -> Tensor:
    return x if x.stride(1) == 1 else x.contiguous()


def _like(weights: Weights, x: Tensor) -> Weights:
    return Weights(*(w.to(x.dtype).contiguous() for w in weights))


def _forward(
    x: Tensor, tree: Tree, weights: Weights, nodes: Tensor, steps: Sequence[Step], how: Config
) -> Iterator[Launch]:
    known = _known(tree, weights, nodes)
    for step in steps:
        if step.bounds is None:
            source = x if step.at_bottom else nodes
            programs = how.programs(step.end - step.start, "BN")
            yield how.launch(kernels.level_fwd, programs, **known, **_level(step, source))
        else:
            yield how.launch(kernels.joined_fwd, _groups(step), **known, **_joined(step))


def _backward(
    x: Tensor,
    tree: Tree,
    weights: Weights,
    nodes: Tensor,
    steps: Sequence[Step],
    how: Config,
    leaves: LeafGradients,
    sums: WeightGradients,
) -> Iterator[Launch]:
    known = _known(tree, weights, nodes)
    known["scratch"] = sums.scratch
    above = {"target": nodes, "to_left": tree.left, "to_right": tree.right}
    bottom = {"target": leaves.target, "to_left": leaves.to_left, "to_right": leaves.to_right}
    for run in runs_down(steps, sums.capacity):
        known["scratch_start"] = run[-1].start
        for step in run:
            if step.bounds is not None:
                yield how.launch(kernels.joined_bwd, _groups(step), **known, **_joined(step))
                continue
            source, to = (x, bottom) if step.at_bottom else (nodes, above)
            pairs = step.end - step.start
            here = {**known, **_level(step, source), **to}
            yield how.launch(kernels.level_bwd_gates, how.programs(pairs, "BN"), **here)
            yield how.launch(kernels.level_bwd_inputs, how.programs(pairs, "BC"), **here)
        yield sums.add(run[0].end - run[-1].start, how)


def _known(tree: Tree, weights: Weights, nodes: Tensor) -> dict[str, Any]:
    base = tree.singles.numel()
    return {
        "nodes": nodes, "base": base, "left": tree.left, "right": tree.right, **weights._asdict()
    }  # fmt: skip


def _level(step: Step, source: Tensor) -> dict[str, Any]:
    return {"start": step.start, "end": step.end, "source": source, "stride": source.stride(0)}


def _groups(step: Step) -> tuple[int]:
    assert step.bounds is not None
    return (step.bounds.size(1) - 1,)


def _joined(step: Step) -> dict[str, Any]:
    assert step.bounds is not None
    levels, ends = step.bounds.shape
    return {"bounds": step.bounds, "levels": levels, "groups": ends - 1}
