"""The fold with a Binary-GRU by torch's own operators, in chunks that stay in the cache.

In terms of ``s = a + b`` and ``t = a - b`` all linear parts of a pair are two products,
``u = s w_u.T + bias`` and ``v = t w_v.T``: ``u + v`` holds what ``GRU(a, b)`` puts through its
gates, ``u - v`` what ``GRU(b, a)`` does (see :mod:`lcm_graph.kernels.binary_gru.gates`). That is
``8 d²`` multiply-adds a pair and, going back, 16, in two and four large products.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from lcm_graph.kernels.binary_gru.gates import EAGER, Gates
from lcm_graph.kernels.binary_gru.weights import Weights
from lcm_graph.kernels.tree import Tree

CHUNK_NUMBERS = {"cpu": 1 << 16, "cuda": 1 << 24}
"""Numbers in one operand of a chunk, pairs times features: on CPU a chunk stays in the cache."""


ROWS_CHANNELS = 128
ROWS_READ = 8.0
"""From so many channels on, and so many reads of a row on average, rows are multiplied once each.

A pair of leaves then gathers 16 numbers a channel from memory instead of multiplying two.
"""


class Products(NamedTuple):
    """The two products' weights; four blocks of ``d`` rows: reset, update, input, hidden."""

    w_u: Tensor  # [4 d, d]
    w_v: Tensor  # [4 d, d]
    bias: Tensor  # [4 d]


class Chunk(NamedTuple):
    """Where ``m`` pairs are worked on."""

    x: Tensor  # [2, m, d]: the operands, b before a: what the orders (a, b) and (b, a) carry on
    s: Tensor  # [m, d]
    t: Tensor  # [m, d]
    u: Tensor  # [m, 4 d]
    v: Tensor  # [m, 4 d]
    kept: Tensor  # [2, m, 4 d]: what the gates leave for their backward pass
    spare: Tensor  # [2, 2, m, d]: at the gates' disposal


def fold(
    x: Tensor, tree: Tree, weights: Weights, saved: Tensor | None = None, gates: Gates = EAGER
) -> Tensor:
    """The buffer ``nodes [tree.num_nodes, d]`` of the fold of ``x [n, d]``; see :class:`Tree`.

    Args:
        x: elements ``[n, d]``.
        tree: the sets.
        weights: of ``x``'s dtype.
        saved: ``[pairs, 8 d]``, to be filled with what spares :func:`fold_backward` the products.
        gates: the elementwise part.
    """
    products = _products(weights)
    nodes = x.new_empty(tree.num_nodes, x.size(1))
    singles = tree.singles.numel()
    torch.index_select(x, 0, tree.singles, out=nodes[:singles])
    work = _Workspace(x, tree)
    rows = _multiplied_rows(x, tree, products)
    for level, start, end in work.chunks():
        chunk = work.chunk(start, end, saved, gates.keeps_products)
        _load(nodes if level else x, tree, start, end, chunk)
        if level or rows is None:
            _multiply(products, chunk)
        else:
            _gather_products(rows, tree, start, end, chunk)
        gates.forward(chunk, nodes[singles + start : singles + end])
    return nodes


def fold_backward(
    x: Tensor,
    tree: Tree,
    weights: Weights,
    nodes: Tensor,
    grad_roots: Tensor,
    saved: Tensor | None = None,
    distinct: bool = True,
    gates: Gates = EAGER,
) -> tuple[Tensor, Weights]:
    """The gradients of ``x`` and of the weights.

    A node's gradient takes the place of its value once no level needs the value.

    Args:
        x: elements ``[n, d]``.
        tree: the sets.
        weights: as in :func:`fold`.
        nodes: what :func:`fold` returned; overwritten.
        grad_roots: ``[occupied sets, d]``, the gradient of ``nodes[tree.roots]``.
        saved: what :func:`fold` filled, or ``None`` to multiply again; overwritten.
        distinct: whether the tree reads each row of ``x`` at most once.
        gates: as in :func:`fold`.
    """
    products = _products(weights)
    singles = tree.singles.numel()
    nodes.index_copy_(0, tree.roots, grad_roots.to(nodes.dtype))
    grad_x = x.new_zeros(x.shape)
    put = grad_x.index_copy_ if distinct else grad_x.index_add_
    wide = torch.promote_types(x.dtype, torch.float32)
    totals = Products(*(torch.zeros_like(w, dtype=wide) for w in products))
    work = _Workspace(x, tree)
    rows = _multiplied_rows(x, tree, products) if saved is None else None
    for level, start, end in reversed(work.chunks()):
        chunk = work.chunk(start, end, saved, gates.keeps_products)
        _load(nodes if level else x, tree, start, end, chunk)
        if saved is None:
            if level or rows is None:
                _multiply(products, chunk)
            else:
                _gather_products(rows, tree, start, end, chunk)
            gates.prepare(chunk)
        gates.backward(chunk, nodes[singles + start : singles + end])
        left, right = _operand_gradients(products, chunk)
        _add_weight_gradients(totals, chunk)
        into = nodes.index_copy_ if level else put
        into(0, tree.left[start:end], left)
        into(0, tree.right[start:end], right)
    put(0, tree.singles, nodes[:singles])
    return grad_x, Weights(*(t.to(x.dtype) for t in _weight_gradients(totals)))


class _Workspace:
    """Buffers for the chunks of a tree, allocated once."""

    def __init__(self, x: Tensor, tree: Tree) -> None:
        self.level_ptr = tree.level_ptr
        d = x.size(1)
        rows = max(64, CHUNK_NUMBERS.get(x.device.type, 1 << 24) // d)
        widest = max((end - start for _, start, end in _levels(tree.level_ptr)), default=0)
        self.rows = min(rows, widest)
        self.channels = d
        self.buffer = x.new_empty(24 * d * self.rows)

    def chunks(self) -> list[tuple[int, int, int]]:
        """Level, first pair and one past the last of each chunk."""
        return [
            (level, at, min(at + self.rows, end))
            for level, start, end in _levels(self.level_ptr)
            for at in range(start, end, self.rows)
        ]

    def chunk(self, start: int, end: int, saved: Tensor | None, keeps_products: bool) -> Chunk:
        """The buffers of pairs ``start`` to ``end - 1``; what is kept is kept in ``saved``."""
        m, d = end - start, self.channels
        x, s, t, u, v, kept, spare = (
            self.buffer[: 24 * d * m].view(24, -1).split([2, 1, 1, 4, 4, 8, 4])
        )
        if saved is not None:
            kept = saved[start:end].view(8, -1)
        if keeps_products:
            u, v = kept.split(4)
        return Chunk(
            x.view(2, m, d),
            s.view(m, d),
            t.view(m, d),
            u.view(m, 4 * d),
            v.view(m, 4 * d),
            kept.view(2, m, 4 * d),
            spare.view(2, 2, m, d),
        )


def _levels(level_ptr: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    for level, start in enumerate(level_ptr[:-1]):
        yield level, start, level_ptr[level + 1]


def _load(values: Tensor, tree: Tree, start: int, end: int, chunk: Chunk) -> None:
    b, a = chunk.x
    torch.index_select(values, 0, tree.left[start:end], out=a)
    torch.index_select(values, 0, tree.right[start:end], out=b)
    torch.add(a, b, out=chunk.s)
    torch.sub(a, b, out=chunk.t)


def _multiply(products: Products, chunk: Chunk) -> None:
    torch.addmm(products.bias, chunk.s, products.w_u.t(), out=chunk.u)
    torch.mm(chunk.t, products.w_v.t(), out=chunk.v)


def _multiplied_rows(x: Tensor, tree: Tree, products: Products) -> tuple[Tensor, Tensor] | None:
    """The products of each row of ``x``, where that is less work than those of the leaves' pairs.

    They are linear: u of a pair is the sum, v the difference of its rows'.
    """
    pairs = tree.level_ptr[1] if len(tree.level_ptr) > 1 else 0
    if x.size(1) < ROWS_CHANNELS or 2 * pairs < ROWS_READ * x.size(0):
        return None
    return torch.addmm(products.bias / 2, x, products.w_u.t()), x @ products.w_v.t()


def _gather_products(
    rows: tuple[Tensor, Tensor], tree: Tree, start: int, end: int, chunk: Chunk
) -> None:
    left, right = tree.left[start:end], tree.right[start:end]
    other = chunk.spare.view_as(chunk.u)
    for of_row, into, combine in ((rows[0], chunk.u, torch.add), (rows[1], chunk.v, torch.sub)):
        torch.index_select(of_row, 0, left, out=into)
        torch.index_select(of_row, 0, right, out=other)
        combine(into, other, out=into)


def _operand_gradients(products: Products, chunk: Chunk) -> tuple[Tensor, Tensor]:
    """The gradients of the left and of the right operands, ``[m, d]`` each, over ``chunk.x``."""
    through_s, through_t = chunk.spare[0]
    torch.mm(chunk.u, products.w_u, out=through_s)
    torch.mm(chunk.v, products.w_v, out=through_t)
    right, left = chunk.x
    left.add_(through_s).add_(through_t)
    right.add_(through_s).sub_(through_t)
    return left, right


def _add_weight_gradients(totals: Products, chunk: Chunk) -> None:
    if totals.w_u.dtype == chunk.u.dtype:
        totals.w_u.addmm_(chunk.u.t(), chunk.s)
        totals.w_v.addmm_(chunk.v.t(), chunk.t)
    else:
        totals.w_u.add_(chunk.u.t() @ chunk.s)
        totals.w_v.add_(chunk.v.t() @ chunk.t)
    totals.bias.add_(chunk.u.sum(0, dtype=totals.bias.dtype))


def _products(weights: Weights) -> Products:
    w_in, w_hidden = weights.w_new.chunk(2)
    # In u ± v the candidate's input is twice that of its own operand, and its hidden part twice
    # that of the other, as the sigmoid that stands for tanh asks for.
    return Products(
        torch.cat([weights.w_sum, w_in, w_hidden]),
        torch.cat([weights.w_diff, w_in, -w_hidden]),
        torch.cat([weights.bias, 2 * weights.bias_new]),
    )


def _weight_gradients(grads: Products) -> Weights:
    gates = grads.w_u.size(0) // 2
    in_u, hidden_u = grads.w_u[gates:].chunk(2)
    in_v, hidden_v = grads.w_v[gates:].chunk(2)
    return Weights(
        grads.w_u[:gates],
        grads.w_v[:gates],
        torch.cat([in_u + in_v, hidden_u - hidden_v]),
        grads.bias[:gates],
        2 * grads.bias[gates:],
    )
