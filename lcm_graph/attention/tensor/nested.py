"""The exact answer: attention of every query and key to the next set of keys, folded over keys."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from lcm_graph.attention.dense import attend
from lcm_graph.attention.dense.chunked import CHUNK
from lcm_graph.attention.states import AttentionState
from lcm_graph.attention.tensor.inputs import Inputs
from lcm_graph.attention.tensor.recompute import compute_again, part_size
from lcm_graph.attention.tensor.seen import Seen, seen_keys


def nested_attention(inputs: Inputs, form: str) -> AttentionState:
    r"""Logits ``"trilinear"`` or ``"strassen"``, of any size.

    A query :math:`q_i` and a key :math:`k_j` of the first set make a query of their own,
    :math:`q_i \circ k_j`, to the rest of the sets. Its state, with the output multiplied by the
    value :math:`v_j`, is one of those that the fold over j merges. (In the Strassen form it is
    :math:`q_i + k_j`, and :math:`q_i k_j` is added to ``lse``.)

    Time for the product of all numbers of keys for each query; memory for some queries' logits,
    which the backward pass computes again if the queries come in several parts.
    """
    *outer, last = inputs.seen
    features = inputs.q.size(-1) + inputs.values[0].size(-1)
    step = part_size(inputs.lead * math.prod(outer) * (min(last, CHUNK) + features))
    if not inputs.queries:
        out = 0 * inputs.q[..., :1].expand(-1, -1, inputs.values[0].size(-1))
        return AttentionState(out, out.new_zeros(out.shape[:-1]))
    parts = []
    for start in range(0, inputs.queries, step):
        part = partial(_part, inputs, form, start, min(start + step, inputs.queries))
        tensors = (inputs.q, *inputs.keys, *inputs.values)
        parts.append(compute_again(part, *tensors) if step < inputs.queries else part(*tensors))
    out, lse = (torch.cat(some, 1) for some in zip(*parts, strict=True))
    return AttentionState(out, lse)


def _part(
    inputs: Inputs, form: str, start: int, stop: int, q: Tensor, *keys_and_values: Tensor
) -> AttentionState:
    sets = len(keys_and_values) // 2
    inputs = inputs._replace(q=q, keys=keys_and_values[:sets], values=keys_and_values[sets:])
    seen = [seen_keys(inputs, number, start, stop) for number in range(sets)]
    state = _fold(q[:, start:stop].unsqueeze(2), seen, inputs.scale, form)
    return AttentionState(state.out.squeeze(2), state.lse.squeeze(2))


def _fold(q: Tensor, seen: list[Seen], scale: float, form: str) -> AttentionState:
    """The states of ``q [L, c, P, D]``: P products of each of c queries with keys so far."""
    (keys, values, mask), *rest = seen
    if mask is not None:
        mask = mask.unsqueeze(1)  # [c, 1, W]
    if not rest:
        return _attend(q, keys, values, mask, scale)
    one, other = q.unsqueeze(3), keys.unsqueeze(2)  # [L, c, P, 1, D], [L, 1 or c, 1, W, D]
    pairs = one + other if form == "strassen" else one * other
    inner = _fold(pairs.flatten(2, 3), rest, scale, form)
    lse = inner.lse.unflatten(2, pairs.shape[2:4])  # [L, c, P, W]
    if form == "strassen":
        lse = lse + scale * (q @ keys.mT)
    if mask is not None:
        lse = lse.masked_fill(~mask, -torch.inf)
    return _gather(lse, values.unsqueeze(2) * inner.out.unflatten(2, pairs.shape[2:4]))


def _attend(
    q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float
) -> AttentionState:
    """To the last set, of ``q [L, c, P, D]``."""
    if keys.size(1) > 1:
        return attend(q, keys, values, mask=mask, scale=scale)
    # Keys that all see in common need not be copied for each query.
    if mask is not None:
        mask = mask.expand(-1, q.size(2), -1).flatten(0, 1)
    state = attend(q.flatten(1, 2).unsqueeze(1), keys, values, mask=mask, scale=scale)
    out, lse = (tensor.squeeze(1).unflatten(1, q.shape[1:3]) for tensor in state)
    return AttentionState(out, lse)


def _gather(lse: Tensor, values: Tensor) -> AttentionState:
    """Merge states along the last dimension of ``lse``: attention whose logits are known."""
    nothing = lse.new_zeros(())
    state = attend(
        nothing.expand(*lse.shape[:-1], 1, 1),
        nothing.expand(*lse.shape, 1),
        values,
        bias=lse.unsqueeze(-2),
        scale=1.0,
    )
    return AttentionState(state.out.squeeze(-2), state.lse.squeeze(-1))
