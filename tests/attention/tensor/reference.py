"""Tensor attention written down: a loop over queries and keys of the first set."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lcm_graph.attention import AttentionState

SIZES = ((1, 1, 1), (2, 3, 2), (3, 1, 4), (3, 16, 17), (17, 17, 17))
"""Queries, keys of the first set, keys of the second."""


def logits_of(form: str, q: Tensor, k1: Tensor, k2: Tensor) -> Tensor:
    """Of one query and one key with all keys of the second set: ``[D], [D], [M, D] -> [M]``."""
    if form == "trilinear":
        return (q * k1 * k2).sum(-1)
    if form == "strassen":
        return q.dot(k1) + (k1 * k2).sum(-1) + (k2 * q).sum(-1)
    if form == "rank1":
        return q.dot(k1) + (k2 * q).sum(-1)
    assert form == "determinant"
    found = torch.zeros_like(k2[:, 0])
    for c in range(0, len(q), 3):
        both = torch.stack([q[c : c + 3], k1[c : c + 3]]).expand(len(k2), 2, 3)
        found = found + torch.linalg.det(torch.cat([both, k2[:, None, c : c + 3]], 1))
    return found


def one_head(
    q: Tensor,
    keys: tuple[Tensor, Tensor],
    values: tuple[Tensor, Tensor],
    form: str,
    scale: float,
    widths: tuple[int, int] | None,
    weight: Callable[[Tensor], Tensor] | None,
) -> AttentionState:
    """Of ``[N, D]`` queries that see, of each set, the keys up to their place, or all."""
    outs, lses = [], []
    for i in range(len(q)):
        seen = []
        for number, k in enumerate(keys):
            place = len(k) - len(q) + i
            first, end = 0, len(k)
            if widths is not None:
                first, end = max(0, place - widths[number] + 1), max(0, place + 1)
            seen.append(range(first, end))
        logits, gathered = [], []
        rows = list(seen[1])
        for j in seen[0]:
            logits.append(scale * logits_of(form, q[i], keys[0][j], keys[1][rows]))
            gathered.append(values[0][j] * values[1][rows])
        if not logits or not rows:
            outs.append(torch.zeros_like(values[0].sum(0)))
            lses.append(torch.full_like(q[i].sum(), -math.inf))
            continue
        together = torch.cat(logits)
        if weight is None:
            shares, lse = together.softmax(0), together.logsumexp(0)
        else:
            total = weight(together).sum()
            shares, lse = weight(together) / total, total.log()
        outs.append((shares[:, None] * torch.cat(gathered)).sum(0))
        lses.append(lse)
    if not outs:
        return AttentionState(q.new_zeros(0, values[0].size(-1)), q.new_zeros(0))
    return AttentionState(torch.stack(outs), torch.stack(lses))


def reference(
    q: Tensor,
    keys: tuple[Tensor, Tensor],
    values: tuple[Tensor, Tensor],
    form: str = "trilinear",
    scale: float | None = None,
    *,
    causal: bool = False,
    window: tuple[int, int] | None = None,
    weight: Callable[[Tensor], Tensor] | None = None,
) -> AttentionState:
    """Of any number of heads; ``weight`` is of logits, if not the exponential."""
    if scale is None:
        scale = q.size(-1) ** -0.5
    if causal:
        window = (keys[0].size(-2), keys[1].size(-2))
    if q.dim() == 2:
        return one_head(q, keys, values, form, scale, window, weight)
    heads = []
    for head in range(q.size(0)):
        own = [tuple(t[head * t.size(0) // q.size(0)] for t in both) for both in (keys, values)]
        ks, vs = (own[0][0], own[0][1]), (own[1][0], own[1][1])
        heads.append(
            reference(q[head], ks, vs, form, scale, window=window, weight=weight),
        )
    return AttentionState(*(torch.stack(some) for some in zip(*heads, strict=True)))


def tensors(
    lead: tuple[int, ...],
    n: int,
    m1: int,
    m2: int,
    d: int = 6,
    c: int = 2,
    *,
    size: float = 1.0,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Queries, keys and values that need gradients."""
    shapes = ((n, d), (m1, d), (m2, d), (m1, c), (m2, c))
    q, k1, k2, v1, v2 = (torch.randn(*lead, *shape, dtype=torch.float64) for shape in shapes)
    q, k1, k2, v1, v2 = (
        t.to(dtype).requires_grad_() for t in (size * q, size * k1, size * k2, v1, v2)
    )
    return q, (k1, k2), (v1, v2)


def deviation(found: AttentionState, expected: AttentionState) -> float:
    """The largest absolute difference of outputs, and of ``lse`` where there are keys."""
    assert found.out.shape == expected.out.shape and found.lse.shape == expected.lse.shape
    seen = expected.lse != -math.inf
    assert torch.equal(found.lse != -math.inf, seen)
    gaps = [(found.out - expected.out).flatten(), (found.lse - expected.lse)[seen]]
    gap = torch.cat([one.detach().abs().double() for one in gaps])
    assert not gap.isnan().any()
    return float(gap.max()) if len(gap) else 0.0


def gradient_deviation(
    found: AttentionState, expected: AttentionState, inputs: list[Tensor]
) -> float:
    """The largest difference of gradients, on a random cotangent of outputs and ``lse``."""
    cotangents = torch.randn_like(found.out), torch.randn_like(found.lse)
    seen = expected.lse != -math.inf
    grads = []
    for out, lse in (found, expected):
        loss = (cotangents[0] * out).sum() + (cotangents[1] * lse)[seen].sum()
        grads.append(torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True))
    gaps = [(mine - theirs).abs() for mine, theirs in zip(*grads, strict=True)]
    assert not any(gap.isnan().any() for gap in gaps)
    return max(float(gap.max()) for gap in gaps if gap.numel())
