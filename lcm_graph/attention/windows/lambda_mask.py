"""Λ-shaped attention: a window of the latest tokens, and the first ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lcm_graph.attention.dense import attend
from lcm_graph.attention.states import AttentionState, merge
from lcm_graph.attention.windows.rope import Rope
from lcm_graph.monoids.base import check_at_least


def lambda_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    window: int,
    n_global: int = 10,
    rope: Rope | None = None,
    distance_limit: int | None = None,
    positions: Tensor | None = None,
    scale: float | None = None,
) -> AttentionState:
    """Causal attention to the ``window`` latest keys and to the ``n_global`` first ones.

    Two states with positions of their own, merged. In the window, queries and keys are turned by
    where they are. The first keys are not turned, and the queries that look at them as if they were
    ``distance_limit`` away: so a model meets no distance that it was not trained on, however long
    the sequence. Time and memory are linear in the number of queries.

    Args:
        q: floating point ``[B, H, N, D]``, the last N tokens, before rotary embedding if there is
            one.
        k: ``[B, heads, M, D]``, all tokens, likewise.
        v: ``[B, heads, M, C]``.
        window: tokens that a query sees, itself among them.
        n_global: tokens at the beginning that all see.
        rope: rotary embedding, if the model has one.
        distance_limit: how far the first tokens seem to be (default: ``window``).
        positions: of the keys, int64 ``[M]`` (default: 0, 1, …), for a cache that has lost some;
            the window counts keys, not positions.
        scale: of the logits (default: ``D ** -0.5``).

    Returns:
        ``out [B, H, N, C]`` and ``lse [B, H, N]``, float32 or wider.

    Raises:
        ValueError: ``window`` is below 1, ``n_global`` or ``distance_limit`` negative, there are
            more queries than keys, or a shape is another one.

    Source: Han et al., "LM-Infinite: Zero-Shot Extreme Length Generalization for Large Language
    Models" (2024), section 4 and their code.
    """
    limit = window if distance_limit is None else distance_limit
    for name, number, least in (
        ("window", window, 1), ("n_global", n_global, 0), ("distance_limit", limit, 0)
    ):  # fmt: skip
        check_at_least(name, number, least)
    if q.dim() != 4 or k.dim() != 4 or q.size(2) > k.size(2):
        raise ValueError(
            "'q' [B, H, N, D] must be the last of as many tokens as 'k' [B, heads, M, D] has (got "
            f"{list(q.shape)} and {list(k.shape)})"
        )
    if v.shape[:3] != k.shape[:3]:
        raise ValueError(
            "'v' must be [B, heads, M, C], with the first three of 'k' "
            f"(got {list(v.shape)} and {list(k.shape)})"
        )
    if rope is not None and rope.features != q.size(3):
        raise ValueError(f"'rope' must turn {q.size(3)} features as 'q' has (got {rope})")
    n, m = q.size(2), k.size(2)
    if positions is None:
        positions = torch.arange(m, device=k.device)
    elif positions.shape != (m,) or positions.dtype != torch.int64:
        raise ValueError(
            f"'positions' must be int64 {[m]}, of all keys "
            f"(got {positions.dtype} {list(positions.shape)})"
        )
    first = slice(0, min(n_global, m))
    local_q = q if rope is None else rope(q, positions[m - n :])
    latest = slice(max(0, m - n - (window - 1)), m)
    local_k = k[:, :, latest] if rope is None else rope(k[:, :, latest], positions[latest])
    near = _banded(local_q, local_k, v[:, :, latest], window, scale)
    far_q = q if rope is None else rope(q, torch.full((), limit))
    place = torch.arange(m - n, m, device=q.device).unsqueeze(1)
    outside = place - torch.arange(first.stop, device=q.device) >= window
    far = attend(far_q, k[:, :, first], v[:, :, first], mask=outside, scale=scale)
    return merge(near, far)


def _banded(q: Tensor, k: Tensor, v: Tensor, window: int, scale: float | None) -> AttentionState:
    """Each of the last N tokens to the ``window`` tokens that end with it, block by block."""
    batch, _, n, _ = q.shape
    m = k.size(2)
    size = min(window, n)  # queries of a block, which see window - 1 keys before them
    if not n:
        return attend(q, k[:, :, :0], v[:, :, :0], scale=scale)
    blocks = -(-n // size)
    rest = blocks * size - n
    start = m - n - (window - 1)  # of the first key that the first query sees
    k, v = (F.pad(t[:, :, max(0, start) :], (0, 0, max(0, -start), rest)) for t in (k, v))
    seen = window - 1 + size
    blocks_of_q = F.pad(q, (0, 0, 0, rest)).unflatten(2, (blocks, size))
    blocks_of_k, blocks_of_v = (t.unfold(2, seen, size).transpose(-1, -2) for t in (k, v))
    row = torch.arange(size, device=q.device).unsqueeze(1)
    column = torch.arange(seen, device=q.device)
    band = (column >= row) & (column < row + window)
    there = start + size * torch.arange(blocks, device=q.device).view(-1, 1, 1) + column >= 0
    mask = (band & there).unsqueeze(1).repeat(batch, 1, 1, 1)
    state = attend(*map(_as_batch, (blocks_of_q, blocks_of_k, blocks_of_v)), mask=mask, scale=scale)
    out = state.out.unflatten(0, (batch, blocks)).transpose(1, 2).flatten(2, 3)[:, :, :n]
    lse = state.lse.unflatten(0, (batch, blocks)).transpose(1, 2).flatten(2, 3)[:, :, :n]
    return AttentionState(out, lse)


def _as_batch(blocks: Tensor) -> Tensor:
    """``[B, H, blocks, tokens, D]`` -> ``[B * blocks, H, tokens, D]``."""
    return blocks.transpose(1, 2).flatten(0, 1)
