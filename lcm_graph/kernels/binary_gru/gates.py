"""The elementwise part of a Binary-GRU, forward and backward.

Of a pair's products ``u`` and ``v`` (four blocks: reset, update, input, hidden), ``p = u ± v`` are
what the two orders put through a GRU's gates::

    y = sigmoid(p_input + sigmoid(p_reset) p_hidden)
    order = (1 - sigmoid(p_update)) (2 y - 1) + sigmoid(p_update) x

where ``2 y - 1`` is the candidate, a ``tanh`` (torch's own takes six times as long as its sigmoid
on CPU), and ``x`` the operand that the order carries on. A pair gives the mean of both orders.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

sigmoid_backward = torch.ops.aten.sigmoid_backward

if TYPE_CHECKING:
    from lcm_graph.kernels.binary_gru.torch_fold import Chunk


class Gates(NamedTuple):
    """An implementation of the elementwise part.

    ``forward(chunk, out)`` writes the pairs' results to ``out [m, d]`` and leaves what its backward
    pass reads in ``chunk.kept``; ``prepare(chunk)`` does the latter alone. ``backward(chunk,
    grad)`` takes the gradient ``[m, d]`` of the results and writes those of the products to
    ``chunk.u`` and ``chunk.v`` and, to ``chunk.x``, those of the operands that do not go through
    the products. With ``keeps_products`` ``u`` and ``v`` lie in ``kept``.
    """

    forward: Callable[[Chunk, Tensor], None]
    prepare: Callable[[Chunk], None]
    backward: Callable[[Chunk, Tensor], None]
    keeps_products: bool = False


def _forward(chunk: Chunk, out: Tensor) -> None:
    _prepare(chunk)
    _, update, y, _ = chunk.kept.split(out.size(1), dim=2)
    orders = chunk.spare[0]
    torch.sub(y, 0.5, out=orders)
    torch.lerp(orders, chunk.x.mul_(0.5), update, out=orders)
    torch.add(orders[0], orders[1], out=out)


def _prepare(chunk: Chunk) -> None:
    p, d = chunk.kept, chunk.s.size(1)
    torch.add(chunk.u, chunk.v, out=p[0])
    torch.sub(chunk.u, chunk.v, out=p[1])
    gates, y, hidden = p.split([2 * d, d, d], dim=2)
    gates.sigmoid_()
    y.addcmul_(gates[:, :, :d], hidden).sigmoid_()


def _backward(chunk: Chunk, grad: Tensor) -> None:
    reset, update, y, hidden = chunk.kept.split(grad.size(1), dim=2)
    for_update, for_y = chunk.spare
    half = grad / 2
    # An order is (1 - update) (2 y - 1) + update x, and half of it counts.
    torch.add(y, chunk.x, alpha=-0.5, out=for_update)
    torch.addcmul(half, for_update, grad, value=-1, out=for_update)
    torch.mul(update, half, out=chunk.x)
    torch.addcmul(grad, grad, update, value=-1, out=for_y)
    sigmoid_backward(for_update, update, grad_input=update)
    sigmoid_backward(for_y, y, grad_input=y)
    # y is the sigmoid of input + reset hidden: its gradient is the input's.
    for_reset = torch.mul(y, hidden, out=for_update)
    torch.mul(y, reset, out=hidden)
    sigmoid_backward(for_reset, reset, grad_input=reset)
    torch.add(chunk.kept[0], chunk.kept[1], out=chunk.u)
    torch.sub(chunk.kept[0], chunk.kept[1], out=chunk.v)


EAGER = Gates(_forward, _prepare, _backward)
