"""Attention written down: all logits at once, by torch's own differentiable operators."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lcm_graph.attention.dense.inputs import Inputs
from lcm_graph.attention.states import AttentionState
from lcm_graph.monoids.segment import finite_shift


def plain_attention(inputs: Inputs) -> AttentionState:
    """Any derivative, in forward and reverse mode; memory for N × M logits."""
    q, k, v = (shared(inputs, tensor) for tensor in (inputs.q, inputs.k, inputs.v))
    logits = logits_of(inputs, q, k)
    if not logits.size(-1):  # no maximum; queries stay part of the graph
        logits = F.pad(logits, (0, 1), value=-torch.inf) + 0 * q[..., :1]
        v = F.pad(v, (0, 0, 0, 1))
    shift = finite_shift(logits.amax(-1, keepdim=True))
    weights = (logits - shift).exp()
    total = weights.sum(-1, keepdim=True)
    none = total == 0
    total = torch.where(none, 1, total)
    out = (weights / total) @ v.to(logits.dtype)
    lse = (shift + total.log()).masked_fill(none, -torch.inf)
    return AttentionState(ungrouped(inputs, out), ungrouped(inputs, lse).squeeze(-1))


def logits_of(inputs: Inputs, q: Tensor, k: Tensor) -> Tensor:
    """``scale q kᵀ + bias``, in float32 at least, of what :func:`shared` gives."""
    logits = inputs.scale * (q.to(inputs.dtype) @ k.to(inputs.dtype).mT)
    if inputs.bias is not None:
        logits = logits + shared_bias(inputs)
    seen = inputs.seen()
    return logits if seen is None else logits.masked_fill(~seen, -torch.inf)


def shared(inputs: Inputs, tensor: Tensor) -> Tensor:
    """With heads ``[*, groups, 1 or group, …]``, so that a group's keys broadcast."""
    if inputs.group == 1:
        return tensor
    heads = tensor.size(-3)
    groups = inputs.k.size(-3)
    return tensor.unflatten(-3, (groups, heads // groups))


def shared_bias(inputs: Inputs) -> Tensor:
    """The bias for logits of such heads."""
    bias = inputs.bias
    assert bias is not None
    if inputs.group == 1 or bias.dim() < 3:
        return bias
    if bias.size(-3) == 1:
        return bias.unsqueeze(-3)
    return shared(inputs, bias)


def ungrouped(inputs: Inputs, tensor: Tensor) -> Tensor:
    """Back to one dimension of heads."""
    return tensor if inputs.group == 1 else tensor.flatten(-4, -3)
