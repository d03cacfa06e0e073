"""HyperAttention: sorted by hashes, exact in blocks, sampled beside them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lcm_graph.attention.dense import attend
from lcm_graph.attention.selective.heads import rows_of
from lcm_graph.attention.selective.partition import hash_buckets
from lcm_graph.attention.states import AttentionState, merge
from lcm_graph.monoids.base import check_at_least
from lcm_graph.monoids.state import map_state


class _Settings(NamedTuple):
    directions: Tensor  # [D, projections]
    block_size: int
    samples: int
    generator: torch.Generator | None
    scale: float


def hyper_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    projections: int = 7,
    block_size: int = 256,
    samples: int = 256,
    causal: bool = False,
    scale: float | None = None,
    generator: torch.Generator | None = None,
) -> AttentionState:
    """Attention in time that is nearly linear in the number of tokens.

    Queries and keys are sorted by the side of random hyperplanes on which they lie, so that those
    that go together are near each other. Each block of queries attends to the block of keys at its
    place exactly; what the other keys add is estimated from a uniform sample of all keys, less
    those in the block: unbiased, above and below the line of the softmax. Both are merged. Causal
    attention halves the sequence: both halves causally by themselves, and the second half to the
    first without a mask.

    Args:
        q: floating point ``[B, H, N, D]``.
        k: ``[B, heads, M, D]``, with as many heads as ``q`` or a divisor of them.
        v: ``[B, heads, M, C]``.
        projections: hyperplanes.
        block_size: of keys and queries; up to as many, attention is exact.
        samples: keys drawn with replacement for each head; 0 leaves the others out.
        causal: whether token i sees tokens up to i; then ``N = M``.
        scale: of the logits (default: ``D ** -0.5``).
        generator: source of randomness on the queries' device; the global one if ``None``.

    Returns:
        ``out [B, H, N, C]`` and ``lse [B, H, N]``, float32 or wider.

    Raises:
        ValueError: a number is out of range, or shapes do not go together.

    Source: Han et al., "HyperAttention: Long-context Attention in Near-Linear Time" (2024),
    algorithms 1 to 4. There, keys that fill up the last block count, and on GPUs samples of a
    query's own block count twice.
    """
    for name, number, least in (
        ("projections", projections, 1), ("block_size", block_size, 1), ("samples", samples, 0)
    ):  # fmt: skip
        check_at_least(name, number, least)
    fits = q.dim() == k.dim() == v.dim() == 4 and k.shape[:3] == v.shape[:3]
    if not fits or q.size(-1) != k.size(-1) or q.size(1) % max(1, k.size(1)):
        raise ValueError(
            "'q', 'k' and 'v' must be [batch, heads, tokens, features], those of 'k' and 'v' alike "
            "but for features, and the heads of 'k' a divisor of those of 'q' "
            f"(got {list(q.shape)}, {list(k.shape)}, {list(v.shape)})"
        )
    if causal and q.size(2) != k.size(2):
        raise ValueError(
            f"causal attention must have as many queries as keys (got {q.size(2)} and {k.size(2)})"
        )
    times = q.size(1) // max(1, k.size(1))
    if times > 1:
        k, v = k.repeat_interleave(times, 1), v.repeat_interleave(times, 1)
    directions = torch.randn(q.size(3), projections, generator=generator, device=q.device)
    settings = _Settings(
        directions, block_size, samples, generator, q.size(3) ** -0.5 if scale is None else scale
    )
    return _causal(q, k, v, settings) if causal else _whole(q, k, v, settings)


def _causal(q: Tensor, k: Tensor, v: Tensor, settings: _Settings) -> AttentionState:
    n = q.size(2)
    if n <= settings.block_size:
        return attend(q, k, v, causal=True, scale=settings.scale)
    half = n // 2
    first, second = slice(0, half), slice(half, n)
    before = _causal(q[:, :, first], k[:, :, first], v[:, :, first], settings)
    after = _causal(q[:, :, second], k[:, :, second], v[:, :, second], settings)
    across = _whole(q[:, :, second], k[:, :, first], v[:, :, first], settings)
    both: AttentionState = map_state(
        lambda a, b: torch.cat([a, b], dim=2), before, merge(after, across)
    )
    return both


def _whole(q: Tensor, k: Tensor, v: Tensor, settings: _Settings) -> AttentionState:
    n, m = q.size(2), k.size(2)
    if max(n, m) <= settings.block_size or not n or not m:
        return attend(q, k, v, scale=settings.scale)
    blocks = -(-max(n, m) // settings.block_size)
    q_order, k_order = (
        hash_buckets(x, settings.directions).argsort(dim=-1, stable=True) for x in (q, k)
    )
    q, k, v = rows_of(q, q_order), rows_of(k, k_order), rows_of(v, k_order)
    state = _within_blocks(q, k, v, blocks, settings.scale)
    if settings.samples:
        state = merge(state, _sampled(q, k, v, blocks, settings))
    back = q_order.argsort(dim=-1)
    return AttentionState(rows_of(state.out, back), state.lse.gather(2, back))


def _within_blocks(q: Tensor, k: Tensor, v: Tensor, blocks: int, scale: float) -> AttentionState:
    """Each block of queries to its block of keys; blocks as further heads."""
    heads = q.size(1)
    at_q, at_k = (_places(x.size(2), blocks, x.device) for x in (q, k))
    of_k = -(-k.size(2) // blocks)
    mask = None
    if blocks * of_k != k.size(2):
        there = torch.zeros(blocks * of_k, dtype=torch.bool, device=k.device)
        mask = there.index_fill(0, at_k, True).view(blocks, 1, of_k).repeat(heads, 1, 1)
    q, k, v = (_in_blocks(x, blocks, at) for x, at in ((q, at_q), (k, at_k), (v, at_k)))
    state = attend(q, k, v, mask=mask, scale=scale)
    return AttentionState(
        state.out.unflatten(1, (heads, blocks)).flatten(2, 3)[:, :, at_q],
        state.lse.unflatten(1, (heads, blocks)).flatten(2, 3)[:, :, at_q],
    )


def _sampled(q: Tensor, k: Tensor, v: Tensor, blocks: int, settings: _Settings) -> AttentionState:
    """A sample of all keys, each for as many as it stands for, less those in a query's block."""
    n, m = q.size(2), k.size(2)
    draw = torch.rand(*k.shape[:2], settings.samples, generator=settings.generator, device=k.device)
    place = (draw * m).long().clamp(max=m - 1)
    query_block = torch.arange(n, device=q.device) * blocks // n
    elsewhere = (place * blocks // m).unsqueeze(2) != query_block.unsqueeze(1)  # [B, H, N, samples]
    weight = torch.full((), m / settings.samples, device=q.device).log()
    return attend(
        q,
        rows_of(k, place),
        rows_of(v, place),
        mask=elsewhere,
        bias=weight.view(1, 1),
        scale=settings.scale,
    )


def _places(n: int, blocks: int, device: torch.device) -> Tensor:
    """Where the tokens of a sorted sequence are in equal parts of as many slots each, int64
    ``[n]``: the part of token i is ``i * blocks // n``, whatever n, so that the parts of queries
    and of keys lie at the same quantiles."""
    token = torch.arange(n, device=device)
    block = token * blocks // n
    first = (block * n + blocks - 1) // blocks  # token of the block
    return block * -(-n // blocks) + token - first


def _in_blocks(x: Tensor, blocks: int, at: Tensor) -> Tensor:
    """``[B, H, n, D]`` -> ``[B, H * blocks, slots, D]``, zeros where there is no token."""
    slots = -(-x.size(2) // blocks)
    blank = x.new_zeros(*x.shape[:2], blocks * slots, x.size(3))
    return blank.index_copy(2, at, x).unflatten(2, (blocks, slots)).flatten(1, 2)
