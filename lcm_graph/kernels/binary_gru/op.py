"""The fold with a Binary-GRU as an operator of torch: one node of a graph, whatever folds."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from lcm_graph.kernels.backend import note
from lcm_graph.kernels.binary_gru import reference, torch_fold
from lcm_graph.kernels.binary_gru.compiled_gates import compiled_gates
from lcm_graph.kernels.binary_gru.gates import EAGER, Gates
from lcm_graph.kernels.binary_gru.weights import butterfly, cell_gradients
from lcm_graph.kernels.gradient_mode import is_differentiated_again, is_kept, refuse_forward_mode
from lcm_graph.kernels.memory import empty_rows
from lcm_graph.kernels.tree import Tree


@torch.library.custom_op("lcm_graph::binary_gru_fold", mutates_args=())
def binary_gru_fold(
    x: Tensor,
    left: Tensor,
    right: Tensor,
    singles: Tensor,
    roots: Tensor,
    sizes: Tensor,
    level_ptr: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor,
    b_hh: Tensor,
    distinct: bool,
    keep: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Fold ``x [n, d]`` along a tree.

    Args:
        left, right, singles, roots, sizes: see :class:`Tree`.
        level_ptr: int64 ``[levels + 1]`` on the CPU.
        w_ih, w_hh: ``[3 d, d]``; b_ih, b_hh: ``[3 d]``, of a GRU cell.
        distinct: whether the tree reads each row of ``x`` at most once.
        keep: keep the gates for the backward pass.
        backend: ``"torch"``, ``"compile"`` or ``"triton"``.

    Returns:
        The roots ``[occupied sets, d]``; the nodes; and what was kept, ``[pairs or 0, 8 d]``.
    """
    refuse_forward_mode("binary_gru_fold", x, w_ih, w_hh, b_ih, b_hh)
    note(f"binary_gru/{backend}")
    tree = _tree(left, right, singles, roots, sizes, level_ptr)
    weights = butterfly(w_ih, w_hh, b_ih, b_hh)
    if backend == "triton":
        kept = x.new_empty(0, 8 * x.size(1))
        nodes = _triton().fold(x, tree, weights, steps=_steps(tree, x.size(1)))
    else:
        kept = empty_rows(x, left.numel() if keep else 0, 8 * x.size(1))
        nodes = torch_fold.fold(x, tree, weights, kept if keep else None, _gates(backend))
    return nodes.index_select(0, roots), nodes, kept


@torch.library.custom_op("lcm_graph::binary_gru_fold_backward", mutates_args=("nodes", "kept"))
def binary_gru_fold_backward(
    grad_roots: Tensor,
    x: Tensor,
    nodes: Tensor,
    kept: Tensor,
    left: Tensor,
    right: Tensor,
    singles: Tensor,
    roots: Tensor,
    sizes: Tensor,
    level_ptr: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor,
    b_hh: Tensor,
    distinct: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of ``x`` and of the cell's parameters; ``nodes`` and ``kept`` are used up."""
    note(f"binary_gru_backward/{backend}")
    tree = _tree(left, right, singles, roots, sizes, level_ptr)
    weights = butterfly(w_ih, w_hh, b_ih, b_hh)
    if backend == "triton":
        grad_x, grads = _triton().fold_backward(
            x,
            tree,
            weights,
            nodes,
            grad_roots,
            distinct=distinct,
            steps=_steps(tree, x.size(1)),
        )
    else:
        saved = kept if kept.size(0) == left.numel() else None
        grad_x, grads = torch_fold.fold_backward(
            x, tree, weights, nodes, grad_roots, saved, distinct, _gates(backend)
        )
    return grad_x, *cell_gradients(grads)


@binary_gru_fold.register_fake
def _(
    x: Tensor,
    left: Tensor,
    right: Tensor,
    singles: Tensor,
    roots: Tensor,
    sizes: Tensor,
    level_ptr: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor,
    b_hh: Tensor,
    distinct: bool,
    keep: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    d = x.size(1)
    return (
        x.new_empty(roots.size(0), d),
        x.new_empty(singles.size(0) + left.size(0), d),
        x.new_empty(left.size(0) if keep and backend != "triton" else 0, 8 * d),
    )


@binary_gru_fold_backward.register_fake
def _(
    grad_roots: Tensor,
    x: Tensor,
    nodes: Tensor,
    kept: Tensor,
    left: Tensor,
    right: Tensor,
    singles: Tensor,
    roots: Tensor,
    sizes: Tensor,
    level_ptr: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor,
    b_hh: Tensor,
    distinct: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    cell = (p.new_empty(p.shape) for p in (w_ih, w_hh, b_ih, b_hh))
    return x.new_empty(x.shape), *cell  # type: ignore[return-value]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.distinct, _, ctx.backend = inputs
    _, nodes, kept = output
    ctx.save_for_backward(*tensors, nodes, kept)
    ctx.mark_non_differentiable(nodes, kept)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad_roots: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    *tensors, nodes, kept = ctx.saved_tensors
    x, *plan, w_ih, w_hh, b_ih, b_hh = tensors
    nothing = (None,) * len(plan)
    if grad_roots is None:
        return (None,) * 14
    cell = (w_ih, w_hh, b_ih, b_hh)
    if is_differentiated_again((grad_roots,)):
        grad_x, *grads = _differentiable_backward(x, plan, cell, grad_roots)
    else:
        if is_kept() or type(nodes) is not Tensor:  # a compiler's stand-in: it plans memory itself
            nodes, kept = nodes.clone(), kept.clone()
        grad_x, *grads = binary_gru_fold_backward(
            grad_roots.contiguous(), x, nodes, kept, *plan, *cell, ctx.distinct, ctx.backend
        )
    return (grad_x, *nothing, *grads, None, None, None)


def _differentiable_backward(
    x: Tensor, plan: list[Tensor], cell: tuple[Tensor, ...], grad_roots: Tensor
) -> list[Tensor]:
    """The gradient as a function that autograd sees through."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # Aliases: hooks of the tensors themselves are to run once, when this gradient is done.
        inputs = [t.view_as(t) if t.requires_grad else t for t in (x, *cell)]
        nodes = reference.fold(inputs[0], _tree(*plan), butterfly(*inputs[1:]))
        wanted = [t for t in inputs if t.requires_grad]
        found = iter(
            torch.autograd.grad(
                nodes[plan[3]],
                wanted,
                grad_roots,
                create_graph=create_graph,
                allow_unused=True,
            )
        )
    return [next(found) if t.requires_grad else None for t in inputs]  # type: ignore[misc]


binary_gru_fold.register_autograd(_backward, setup_context=_setup)


def _tree(
    left: Tensor, right: Tensor, singles: Tensor, roots: Tensor, sizes: Tensor, level_ptr: Tensor
) -> Tree:
    return Tree(left, right, singles, roots, tuple(level_ptr.tolist()), sizes)


# What a tree is scheduled to is worked out once, and forgotten with the tree.
_schedules: WeakIdKeyDictionary = WeakIdKeyDictionary()


def _steps(tree: Tree, channels: int) -> list[Any]:
    from lcm_graph.kernels.binary_gru.triton_schedule import schedule

    known = _schedules.setdefault(tree.left, {})
    if channels not in known:
        known[channels] = schedule(tree, channels)
    return known[channels]


def _gates(backend: str) -> Gates:
    return compiled_gates() if backend == "compile" else EAGER


def _triton() -> ModuleType:
    from lcm_graph.kernels.binary_gru import triton_fold

    return triton_fold
