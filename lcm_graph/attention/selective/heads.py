"""Heads of queries that share a head of keys, as more queries of one head."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_graph.attention.states import AttentionState


def grouped(q: Tensor, heads: int) -> Tensor:
    """Queries ``[B, H, N, D]`` as ``[B, heads, H // heads * N, D]``.

    Raises:
        ValueError: ``heads`` is no divisor of H, or ``q`` has not four dimensions.
    """
    if q.dim() != 4 or heads < 1 or q.size(1) % heads:
        raise ValueError(
            f"'q' must be [batch, heads, queries, features] with a multiple of {heads} heads "
            f"(got {list(q.shape)})"
        )
    return q.unflatten(1, (heads, -1)).flatten(2, 3)


def ungrouped(state: AttentionState, q: Tensor) -> AttentionState:
    """States of grouped queries with the heads of ``q`` again."""
    heads, size = state.lse.size(1), q.size(2)
    group = q.size(1) // heads
    out = state.out.unflatten(2, (group, size)).flatten(1, 2)
    return AttentionState(out, state.lse.unflatten(2, (group, size)).flatten(1, 2))


def marked_rows(marks: Tensor) -> tuple[Tensor, Tensor]:
    """The places marked in bool ``[B, H, M]``, in their order: int64 ``[B, H, K]`` for the largest
    number K of any head, and bool ``[B, H, K]``, which are there and not filled up."""
    counts = marks.sum(-1)
    most = int(counts.max()) if counts.numel() else 0
    rows = marks.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)[..., :most]
    return rows, torch.arange(most, device=marks.device) < counts.unsqueeze(-1)


def rows_of(tensor: Tensor, rows: Tensor) -> Tensor:
    """Tokens ``[B, H, M, D]`` at ``rows`` int64 ``[B, H, K]`` -> ``[B, H, K, D]``."""
    return tensor.gather(2, rows.unsqueeze(-1).expand(-1, -1, -1, tensor.size(-1)))
