"""The fold with a Binary-GRU as plainly as it can be said: what the quick paths are held to."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_graph.kernels.tree import Tree
from lcm_graph.monoids.gru import Weights, combine_pairs


def fold(x: Tensor, tree: Tree, weights: Weights) -> Tensor:
    """The buffer ``nodes [tree.num_nodes, d]`` of the fold of ``x [n, d]``; see :class:`Tree`."""
    nodes = x[tree.singles]
    for level, start in enumerate(tree.level_ptr[:-1]):
        end = tree.level_ptr[level + 1]
        source = nodes if level else x
        a, b = source[tree.left[start:end]], source[tree.right[start:end]]
        nodes = torch.cat([nodes, combine_pairs(a, b, weights)])
    return nodes


def fold_backward(
    x: Tensor, tree: Tree, weights: Weights, nodes: Tensor, grad_roots: Tensor
) -> tuple[Tensor, Weights]:
    """The gradients of ``x`` and of the weights.

    Args:
        x: elements ``[n, d]``.
        tree: the sets.
        weights: as in :func:`fold`.
        nodes: what :func:`fold` returned; a quick path may overwrite it.
        grad_roots: ``[occupied sets, d]``, the gradient of ``nodes[tree.roots]``.
    """
    with torch.enable_grad():
        inputs = [t.detach().requires_grad_() for t in (x, *weights)]
        roots = fold(inputs[0], tree, Weights(*inputs[1:]))[tree.roots]
    grads = torch.autograd.grad(
        roots, inputs, grad_roots, allow_unused=True, materialize_grads=True
    )
    return grads[0], Weights(*grads[1:])
