"""Tensor attention of whole sequences by the polynomial method."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from lcm_graph.attention.states import AttentionState, LinearState
from lcm_graph.attention.tensor.inputs import Inputs
from lcm_graph.attention.tensor.monomials import monomials
from lcm_graph.attention.tensor.polynomial import PolynomialAttention
from lcm_graph.attention.tensor.recompute import compute_again, part_size
from lcm_graph.monoids.state import leaves, map_state, take
from lcm_graph.reduce import prefix_reduce


def polynomial_attention(inputs: Inputs, degree: int) -> AttentionState:
    """Trilinear logits, in time for tokens times monomials times channels of values.

    All keys, or, if any set is causal, those of all sets up to the query's place. Memory for some
    tokens' monomials, or their states where it is causal, in the backward pass too.

    Raises:
        ValueError: see :meth:`PolynomialAttention.read`; or there are too many monomials.
    """
    monoid = PolynomialAttention(
        inputs.q.size(-1), inputs.values[0].size(-1), degree, len(inputs.keys)
    )
    if inputs.widths[0] is not None:
        return _causal(monoid, inputs)
    state = _total(monoid, inputs.keys, inputs.values)
    read = partial(_read, monoid, inputs.scale)
    step = part_size(inputs.lead * monoid.linear[0].features)
    parts = [compute_again(read, q, *leaves(state)) for q in inputs.q.split(step, 1)]
    out, lse = (torch.cat(some, 1) for some in zip(*parts, strict=True))
    return AttentionState(out, lse)


def _read(monoid: PolynomialAttention, scale: float, q: Tensor, *tensors: Tensor) -> AttentionState:
    return monoid.read(_states(tensors), q, scale)


def _states(tensors: Sequence[Tensor]) -> tuple[LinearState, ...]:
    """From :func:`leaves` of them."""
    return tuple(LinearState(*pair) for pair in zip(tensors[::2], tensors[1::2], strict=True))


def _total(
    monoid: PolynomialAttention, keys: Sequence[Tensor], values: Sequence[Tensor]
) -> tuple[LinearState, ...]:
    """The state of all keys of each set: what lifting and folding them gives, by matrix products.

    Args:
        monoid: what to fold with.
        keys: of each set, ``[L, M, D]``.
        values: of each set, ``[L, M, C]``.
    """
    found = []
    for linear, own_keys, own_values in zip(monoid.linear, keys, values, strict=True):
        step = part_size(own_keys.size(0) * linear.features)
        state = linear.identity(own_keys.size(0), dtype=own_keys.dtype, device=own_keys.device)
        for k, v in zip(own_keys.split(step, 1), own_values.split(step, 1), strict=True):
            products, norm = compute_again(partial(_sums, monoid.degree), k, v)
            state = linear.combine(state, LinearState(products, norm))
        found.append(state)
    return tuple(found)


def _sums(degree: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    features = monomials(keys, degree)
    return features.mT @ values, features.sum(1)


def _causal(monoid: PolynomialAttention, inputs: Inputs) -> AttentionState:
    queries = min(inputs.queries, *(k.size(1) for k in inputs.keys))
    blank = inputs.queries - queries  # the first queries stand before some set's first key
    q = inputs.q[:, blank:]
    before = [k.size(1) - queries for k in inputs.keys]
    keys, values = (
        [(one[:, :some], one[:, some:]) for one, some in zip(tensors, before, strict=True)]
        for tensors in (inputs.keys, inputs.values)
    )
    state = _total(monoid, [early for early, _ in keys], [early for early, _ in values])
    along = [late for _, late in keys] + [late for _, late in values]  # a token for each query
    tensors = leaves(state)
    step = part_size(inputs.lead * sum(tensor[:1].numel() for tensor in tensors))
    out = 0 * inputs.q[:, :blank, :1].expand(-1, -1, values[0][0].size(-1))
    parts = [(out, torch.full_like(out[..., 0], -torch.inf))]
    block = partial(_block, monoid, inputs.scale)
    for start in range(0, queries, step):
        now = [tensor[:, start : start + step] for tensor in (q, *along)]
        out, lse, *tensors = compute_again(block, *now, *tensors)
        parts.append((out, lse))
    return AttentionState(*(torch.cat(some, 1) for some in zip(*parts, strict=True)))


def _block(monoid: PolynomialAttention, scale: float, q: Tensor, *tensors: Tensor) -> list[Tensor]:
    """What some queries read of the keys up to each, and the state after the last of them."""
    sets = monoid.order
    keys, values, before = tensors[:sets], tensors[sets : 2 * sets], _states(tensors[2 * sets :])
    lead, size = q.shape[:2]
    ends = size * torch.arange(lead + 1, device=q.device)
    states = []
    for linear, k, v, state in zip(monoid.linear, keys, values, before, strict=True):
        lifted = linear.lift(monomials(k, monoid.degree).flatten(0, 1), v.flatten(0, 1))
        own = prefix_reduce(linear, lifted, ptr=ends)
        carried = map_state(lambda tensor: tensor.repeat_interleave(size, 0), state)
        states.append(linear.combine(carried, own))
    found = monoid.read(states, q.flatten(0, 1).unsqueeze(1), scale)
    after = take(tuple(states), ends[1:] - 1)
    out, lse = (tensor.squeeze(1).unflatten(0, (lead, size)) for tensor in found)
    return [out, lse, *leaves(after)]
