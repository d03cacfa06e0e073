"""The Strassen form by matrix products."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lcm_graph.attention.states import AttentionState
from lcm_graph.attention.tensor.inputs import Inputs
from lcm_graph.attention.tensor.nested import nested_attention
from lcm_graph.attention.tensor.recompute import compute_again, part_size
from lcm_graph.attention.tensor.seen import seen_keys
from lcm_graph.kernels.gradient_mode import is_transformed
from lcm_graph.monoids.segment import finite_shift


def strassen_attention(inputs: Inputs) -> AttentionState:
    r"""Logits :math:`x_{ij} + y_{jk} + z_{ik}`, the scaled products of queries and both keys.

    With :math:`X, Y, Z` their exponentials, the weights of a query add up to
    :math:`\sum_k (XY)_{ik} Z_{ik}`. With the columns of X and Y times channel c of the values, this
    is that channel of what the query gathers: a matrix product for each channel.

    Rows of X, Y and Z are divided by their largest entries. Where the weights of a query vanish all
    the same, since no pair of keys is near the largest in all three, all are answered by
    :func:`nested_attention`; so are windows narrower than the keys, and calls under ``torch.func``,
    which could not tell.

    Source: Kozachinskiy et al., "Strassen Attention, Split VC Dimension and Compositionality in
    Transformers" (2025); what keeps it stable is ours.
    """
    sizes = [k.size(1) for k in inputs.keys]
    if 0 in (inputs.queries, *sizes) or inputs.seen != sizes or is_transformed():
        return nested_attention(inputs, "strassen")
    q, (k1, k2) = inputs.q, inputs.keys
    x, y, z = (inputs.scale * (a @ b.mT) for a, b in ((q, k1), (k1, k2), (q, k2)))
    x, z = (_hidden(inputs, number, logits) for number, logits in enumerate((x, z)))
    y_max = finite_shift(y.amax(-1, keepdim=True))
    x = x + y_max.mT
    x_max, z_max = (logits.detach().amax(-1, keepdim=True) for logits in (x, z))
    unseen = ((x_max == -torch.inf) | (z_max == -torch.inf)).squeeze(-1)  # [L, N]
    x_max, z_max = finite_shift(x_max), finite_shift(z_max)
    weights = (x - x_max).exp(), (y - y_max).exp(), (z - z_max).exp()
    total = (weights[0] @ weights[1] * weights[2]).sum(-1)
    # Below the limit pairs that count may have been rounded to 0.
    info = torch.finfo(total.dtype)
    if not bool((unseen | (total >= sizes[0] * sizes[1] * info.tiny / info.eps)).all()):
        return nested_attention(inputs, "strassen")
    total = total.masked_fill(unseen, 1)
    lse = (total.log() + (x_max + z_max).squeeze(-1)).masked_fill(unseen, -torch.inf)
    return AttentionState(_sums(weights, *inputs.values) / total.unsqueeze(-1), lse)


def _sums(weights: tuple[Tensor, Tensor, Tensor], v1: Tensor, v2: Tensor) -> Tensor:
    """Weighted sums of values, some channels at a time: ``[L, N, C]``."""
    step = part_size(sum(one.numel() for one in weights))
    if step >= v1.size(-1):
        return _channels(*weights, v1.mT, v2.mT)
    parts = zip(v1.mT.split(step, 1), v2.mT.split(step, 1), strict=True)
    return torch.cat([compute_again(_channels, *weights, *part) for part in parts], -1)


def _channels(x: Tensor, y: Tensor, z: Tensor, v1: Tensor, v2: Tensor) -> Tensor:
    """Channels ``[L, c, M]`` of both values, multiplied into what they weigh."""
    left, right = (w.unsqueeze(1) * v.unsqueeze(2) for w, v in ((x, v1), (y, v2)))
    return ((left @ right) * z.unsqueeze(1)).sum(-1).mT


def _hidden(inputs: Inputs, number: int, logits: Tensor) -> Tensor:
    mask = seen_keys(inputs, number, 0, inputs.queries).mask
    if mask is None:
        return logits
    pad = logits.size(-1) - mask.size(-1)
    return logits.masked_fill(~F.pad(mask, (0, pad)), -torch.inf)
