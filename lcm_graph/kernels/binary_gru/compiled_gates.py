"""The elementwise part of a Binary-GRU, each way compiled to one pass over memory."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lcm_graph.kernels.binary_gru.gates import Gates

if TYPE_CHECKING:
    from lcm_graph.kernels.binary_gru.torch_fold import Chunk

COMPILE_ABOVE = 32
"""Pairs in a chunk from which on the compiled code runs; its sizes are symbols above 1."""


@cache
def compiled_gates() -> Gates:
    """The gates compiled at their first use, for chunks of any sizes.

    What is kept for the backward pass are the products themselves.
    """
    run_forward: Any = torch.compile(_forward, dynamic=True)
    run_backward: Any = torch.compile(_backward, dynamic=True)

    def forward(chunk: Chunk, out: Tensor) -> None:
        run: Any = _forward if out.size(0) <= COMPILE_ABOVE else run_forward
        run(*_blocks(chunk), *chunk.x, out)

    def backward(chunk: Chunk, grad: Tensor) -> None:
        run: Any = _backward if grad.size(0) <= COMPILE_ABOVE else run_backward
        run(*_blocks(chunk), *chunk.x, grad)

    return Gates(forward, lambda chunk: None, backward, keeps_products=True)


def _blocks(chunk: Chunk) -> Any:
    d = chunk.s.size(1)
    return [*chunk.u.split(d, dim=1), *chunk.v.split(d, dim=1)]


def _activated(
    reset: Tensor, update: Tensor, new: Tensor, hidden: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    reset = reset.sigmoid()
    return reset, update.sigmoid(), (new + reset * hidden).sigmoid()


# One tensor for each block, so that each result is written where it belongs, and nowhere else.
def _forward(
    u_reset: Tensor,
    u_update: Tensor,
    u_new: Tensor,
    u_hidden: Tensor,
    v_reset: Tensor,
    v_update: Tensor,
    v_new: Tensor,
    v_hidden: Tensor,
    b: Tensor,
    a: Tensor,
    out: Tensor,
) -> None:
    _, update, y = _activated(
        u_reset + v_reset, u_update + v_update, u_new + v_new, u_hidden + v_hidden
    )
    ab = (y - 0.5) * (1 - update) + update * (b * 0.5)
    _, update, y = _activated(
        u_reset - v_reset, u_update - v_update, u_new - v_new, u_hidden - v_hidden
    )
    ba = (y - 0.5) * (1 - update) + update * (a * 0.5)
    out.copy_(ab + ba)


def _backward(
    u_reset: Tensor,
    u_update: Tensor,
    u_new: Tensor,
    u_hidden: Tensor,
    v_reset: Tensor,
    v_update: Tensor,
    v_new: Tensor,
    v_hidden: Tensor,
    b: Tensor,
    a: Tensor,
    grad: Tensor,
) -> None:
    ab = _order_backward(
        u_reset + v_reset, u_update + v_update, u_new + v_new, u_hidden + v_hidden, b, grad
    )
    ba = _order_backward(
        u_reset - v_reset, u_update - v_update, u_new - v_new, u_hidden - v_hidden, a, grad
    )
    for k, (u, v) in enumerate(
        ((u_reset, v_reset), (u_update, v_update), (u_new, v_new), (u_hidden, v_hidden))
    ):
        u.copy_(ab[k] + ba[k])
        v.copy_(ab[k] - ba[k])
    b.copy_(ab[4])
    a.copy_(ba[4])


def _order_backward(
    reset: Tensor, update: Tensor, new: Tensor, hidden: Tensor, x: Tensor, grad: Tensor
) -> tuple[Tensor, ...]:
    reset, update, y = _activated(reset, update, new, hidden)
    for_new = grad * (1 - update) * y * (1 - y)
    for_update = grad * (0.5 * x + 0.5 - y) * update * (1 - update)
    for_reset = for_new * hidden * reset * (1 - reset)
    return for_reset, for_update, for_new, for_new * reset, 0.5 * grad * update
