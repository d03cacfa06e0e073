"""Attention by torch's own kernel for CPU, where no gradient is asked for."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_graph.attention.dense.inputs import Inputs
from lcm_graph.attention.states import AttentionState
from lcm_graph.kernels.gradient_mode import is_transformed, known_true

_kernel = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)


def refusal(inputs: Inputs) -> str | None:
    """Why the kernel cannot answer, or ``None`` if it can.

    It silently drops the gradient of ``lse``, and crashes without queries or keys (torch 2.13).
    """
    tensors = [t for t in (inputs.q, inputs.k, inputs.v, inputs.bias) if t is not None]
    if _kernel is None:
        return "this torch has none"
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        return "it gives no gradient of lse"
    if any(t.device.type != "cpu" for t in tensors):
        return "it is for the CPU"
    if inputs.q.dim() not in (3, 4) or inputs.q.size(-1) != inputs.v.size(-1):
        return "it takes [batch, heads, tokens, features] with values as wide as keys"
    if 0 in (*inputs.q.shape, *inputs.k.shape):
        return "there are no queries or keys"
    if torch.compiler.is_compiling() or is_transformed():
        return "a compiler or torch.func looks into it"
    return None


def kernel_attention(inputs: Inputs) -> AttentionState:
    """Values without gradients, several times as fast as all logits at once."""
    assert _kernel is not None
    lead = inputs.q.shape[:-3]
    q, k, v = (
        _adjacent(tensor.to(inputs.dtype)).view(lead.numel(), *tensor.shape[-3:])
        for tensor in (inputs.q, inputs.k, inputs.v)
    )
    bias = inputs.bias
    is_causal = inputs.diagonal == 0 and bias is None
    seen = None if is_causal else inputs.seen()
    if seen is not None:
        bias = q.new_zeros(()) if bias is None else bias
        bias = torch.where(seen, bias, -torch.inf)
    if bias is not None:
        bias = bias.view(*[1] * (4 - bias.dim()), *bias.shape)
        # A batch or heads of 1 broadcast; queries and keys are spelt out.
        bias = bias.expand(-1, -1, q.size(-2), k.size(-2))
    out, lse = _kernel(q, k, v, is_causal=is_causal, attn_mask=bias, scale=inputs.scale)
    if bias is not None:  # of a query that sees nothing the kernel says that lse is 0
        hidden = (bias == -torch.inf).all(-1)
        lse = lse.masked_fill(hidden, -torch.inf)
        out = out.masked_fill(hidden.unsqueeze(-1), 0)
    return AttentionState(_like(out, inputs), _like(lse, inputs))


def lost_nan(state: AttentionState, inputs: Inputs) -> bool:
    """Whether the kernel took a row of NaN for one that sees nothing, whose sum it says is 1."""
    if not known_true(state.lse == 0):
        return False
    # A sum is finite if all is, and else what hides keys is -inf, and alone in that.
    queries_and_keys = inputs.q.float().sum() + inputs.k.float().sum()
    biases = 0 if inputs.bias is None else inputs.bias.sum()
    return not bool(queries_and_keys.isfinite() & ~(queries_and_keys + biases).isnan())


def _adjacent(tensor: Tensor) -> Tensor:
    """With features side by side, without which the kernel reads what is not the tensor's."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _like(tensor: Tensor, inputs: Inputs) -> Tensor:
    """With the dimensions of the queries."""
    return tensor.view(*inputs.q.shape[:-3], *tensor.shape[1:])
