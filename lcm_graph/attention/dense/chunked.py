"""Attention in bounded memory, forward and backward, with the gradient of ``lse``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lcm_graph.attention.dense.inputs import Inputs
from lcm_graph.attention.dense.plain import logits_of, plain_attention, shared, ungrouped
from lcm_graph.attention.states import AttentionState, SoftmaxAttention, merge
from lcm_graph.kernels.gradient_mode import is_differentiated_again
from lcm_graph.monoids.segment import finite_shift

CHUNK = 512
"""Keys at a time."""


def chunked_attention(inputs: Inputs) -> AttentionState:
    """Memory for N × :data:`CHUNK` logits, unless it is differentiated twice.

    The backward pass computes logits again, chunk by chunk: for P the weights, gᵒ and gˡ the
    gradients of ``out`` and ``lse`` and D the dot product of ``out`` with gᵒ, the gradient of the
    logits is P (gᵒ Vᵀ - D + gˡ).

    Source: Dao et al., "FlashAttention" (2022), algorithm 4, with the gradient of ``lse`` added,
    which kernels leave out.
    """
    bias = inputs.bias
    out, lse = _Chunked.apply(
        inputs.q, inputs.k, inputs.v, bias, inputs._replace(bias=None), torch.is_grad_enabled()
    )
    return AttentionState(out, lse)


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        bias: Tensor | None,
        rest: Inputs,
        needs_grad: bool,
    ) -> tuple[Tensor, Tensor]:
        state = _fold(rest._replace(q=q.detach(), k=k.detach(), v=v.detach(), bias=bias))
        if needs_grad:
            ctx.save_for_backward(q, k, v, bias, state.out, state.lse)
            ctx.rest = (rest.scale, rest.group, rest.diagonal)
        return state.out, state.lse

    @staticmethod
    def backward(ctx: Any, d_out: Tensor, d_lse: Tensor) -> tuple[Any, ...]:
        with torch.autocast(d_out.device.type, enabled=False):  # as forward
            return _Chunked._backward(ctx, d_out, d_lse)

    @staticmethod
    def _backward(ctx: Any, d_out: Tensor, d_lse: Tensor) -> tuple[Any, ...]:
        q, k, v, bias, out, lse = ctx.saved_tensors
        inputs = Inputs(q, k, v, bias, *ctx.rest)
        # Compiled, it is differentiated once: the question itself would break the graph.
        if not torch.compiler.is_compiling() and is_differentiated_again((d_out, d_lse)):
            return (*_by_autograd(inputs, ctx.needs_input_grad[:4], d_out, d_lse), None, None)
        dtype = inputs.dtype
        # What all logits' gradients have in common, and weights' exponents.
        unseen = lse == -torch.inf
        inner = (d_lse - (d_out * out).sum(-1)).masked_fill(unseen, 0)
        inner, shift = (shared(inputs, t.unsqueeze(-1)) for t in (inner, finite_shift(lse)))
        d_out = shared(inputs, d_out)
        d_q = torch.zeros_like(shared(inputs, q), dtype=dtype)
        d_k, d_v = torch.zeros_like(k, dtype=dtype), torch.zeros_like(v, dtype=dtype)
        d_bias = None
        if bias is not None and ctx.needs_input_grad[3]:
            d_bias = torch.zeros_like(bias, dtype=dtype)
        hidden = shared(inputs, unseen.unsqueeze(-1))
        wide_q = shared(inputs, q).to(dtype)
        for at in range(0, k.size(-2), CHUNK):
            part, rows, keys = _chunk(inputs, at)
            seeing, d_seeing = wide_q[..., rows, :], d_out[..., rows, :]
            weights = (logits_of(part, seeing, shared(part, part.k)) - shift[..., rows, :]).exp()
            weights = weights.masked_fill(hidden[..., rows, :], 0)
            d_v[..., keys, :] = _over_group(inputs, weights.mT @ d_seeing)
            d_weights = d_seeing @ shared(part, part.v).to(dtype).mT
            d_logits = weights * (d_weights + inner[..., rows, :])
            d_q[..., rows, :] += part.scale * (d_logits @ shared(part, part.k).to(dtype))
            d_k[..., keys, :] = part.scale * _over_group(inputs, d_logits.mT @ seeing)
            if d_bias is not None:
                _add_bias(d_bias, ungrouped(inputs, d_logits), rows, keys)
        d_q = ungrouped(inputs, d_q)
        return (
            d_q.to(q.dtype),
            d_k.to(k.dtype),
            d_v.to(v.dtype),
            None if d_bias is None else d_bias.to(bias.dtype),
            None,
            None,
        )


def _by_autograd(
    inputs: Inputs, needed: tuple[bool, ...], d_out: Tensor, d_lse: Tensor
) -> list[Tensor | None]:
    """Gradients that can be differentiated once more, from all logits at once."""
    wanted = [t for t, need in zip(inputs[:4], needed, strict=True) if need and t is not None]
    with torch.enable_grad():
        state = plain_attention(inputs)
        found = iter(torch.autograd.grad(tuple(state), wanted, (d_out, d_lse), create_graph=True))
    return [next(found) if need else None for need in needed]


def _fold(inputs: Inputs) -> AttentionState:
    """The chunks' states, merged one after another; where no gradient is recorded."""
    channels = inputs.v.size(-1)
    shape = inputs.q.shape[:-1]
    blank = SoftmaxAttention(max(1, channels)).identity(
        shape.numel(), dtype=inputs.dtype, device=inputs.q.device
    )
    out, lse = blank.out[:, :channels].view(*shape, channels), blank.lse.view(shape)
    for at in range(0, inputs.k.size(-2), CHUNK):
        part, rows, _ = _chunk(inputs, at)
        before = AttentionState(out[..., rows, :], lse[..., rows])
        out[..., rows, :], lse[..., rows] = merge(before, plain_attention(part))
    return AttentionState(out, lse)


def _chunk(inputs: Inputs, at: int) -> tuple[Inputs, slice, slice]:
    """The same with some of the keys and the queries that see them; which queries, which keys."""
    rows = slice(0, None)
    keys = slice(at, min(at + CHUNK, inputs.k.size(-2)))
    diagonal = inputs.diagonal
    if diagonal is not None:
        rows = slice(max(0, at - diagonal), None)
        diagonal += rows.start - at
    bias = inputs.bias
    if bias is not None:
        bias = _of_logits(bias, rows, keys)
    part = inputs._replace(
        q=inputs.q[..., rows, :],
        k=inputs.k[..., keys, :],
        v=inputs.v[..., keys, :],
        bias=bias,
        diagonal=diagonal,
    )
    return part, rows, keys


def _of_logits(bias: Tensor, rows: slice, keys: slice) -> Tensor:
    """A part of a bias that broadcasts over logits, as a view."""
    if bias.dim() > 1 and bias.size(-2) > 1:
        bias = bias[..., rows, :]
    return bias[..., keys] if bias.dim() and bias.size(-1) > 1 else bias


def _over_group(inputs: Inputs, tensor: Tensor) -> Tensor:
    """The sum over the heads of queries that share a head of keys."""
    return tensor if inputs.group == 1 else tensor.sum(-3)


def _add_bias(d_bias: Tensor, d_logits: Tensor, rows: slice, keys: slice) -> None:
    """Add gradients of logits to those of a bias that was broadcast over them."""
    own = _of_logits(d_bias, rows, keys)
    own += d_logits.sum_to_size(own.shape)
