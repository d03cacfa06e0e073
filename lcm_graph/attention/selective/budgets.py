"""What to keep: from scores to marks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def top_fraction(scores: Tensor, fraction: float, sizes: Tensor | None = None) -> Tensor:
    """Mark what scores highest, head by head, until a fraction of the tokens is kept.

    Args:
        scores: ``[B, H, C]``, of clusters, or of tokens; -inf is never marked.
        fraction: of the tokens, from 0 to 1, to the nearest whole token. Clusters are kept whole:
            the one that reaches the fraction is the last.
        sizes: tokens of each cluster, ``[B, H, C]``, such as ``index.summary.size`` (default: 1
            each, for scores of tokens).

    Returns:
        Bool ``[B, H, C]``.

    Raises:
        ValueError: ``fraction`` is not from 0 to 1, or ``sizes`` have another shape.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"'fraction' must be from 0 to 1 (got {fraction})")
    if sizes is not None and sizes.shape != scores.shape:
        raise ValueError(
            f"'sizes' must have the shape of 'scores', {list(scores.shape)} "
            f"(got {list(sizes.shape)})"
        )
    ones = torch.ones((), dtype=torch.float64, device=scores.device)
    sizes = ones.expand_as(scores) if sizes is None else sizes.double()
    order = scores.argsort(dim=-1, descending=True, stable=True)
    ordered = sizes.gather(-1, order)
    before = ordered.cumsum(-1) - ordered
    wanted = fraction * sizes.sum(-1, keepdim=True)
    marks = torch.zeros_like(scores, dtype=torch.bool)
    return marks.scatter(-1, order, before < wanted - 0.5) & (scores > -torch.inf)


def top_tokens(scores: Tensor, budgets: Tensor | int) -> Tensor:
    """Mark the highest scores of each head, as many as its budget.

    Args:
        scores: ``[B, H, M]``.
        budgets: tokens to keep, int64 that broadcasts over ``[B, H]``.

    Returns:
        Bool ``[B, H, M]``.
    """
    order = scores.argsort(dim=-1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(
        -1, order, torch.arange(scores.size(-1), device=scores.device).expand_as(order)
    )
    budgets = torch.as_tensor(budgets, device=scores.device).expand(scores.shape[:-1])
    return rank < budgets.unsqueeze(-1)


def global_threshold(scores: Sequence[Tensor], sizes: Sequence[Tensor], fraction: float) -> float:
    """The score above which a fraction of all tokens of all layers and heads lies, or the least
    more that whole clusters, and clusters of equal scores, make.

    Heads whose attention is spread out thereby keep more than others.

    Args:
        scores: of clusters, ``[B, H, C]`` for each layer, from calibration queries.
        sizes: their tokens, likewise.
        fraction: from 0 to 1, of the tokens.

    Raises:
        ValueError: ``fraction`` is not from 0 to 1, or a score is NaN, with which nothing would be
            above.

    Source: Hooper et al., "Squeezed Attention" (2024), section 3.3.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"'fraction' must be from 0 to 1 (got {fraction})")
    score = torch.cat([one.detach().flatten() for one in scores])
    size = torch.cat([one.flatten() for one in sizes]).to(score)
    if score.isnan().any():
        raise ValueError("'scores' must be numbers (got NaN)")
    score, order = score[size > 0].sort(descending=True)
    before = size[size > 0][order].cumsum(0)
    reached = int(torch.searchsorted(before, fraction * before[-1])) if len(before) else 0
    if fraction >= 1 or not len(score):
        return -torch.inf
    if fraction <= 0:
        return torch.inf
    last = score[min(reached, len(score) - 1)]
    lower = score[score < last]
    if len(lower):  # halfway to the next
        return (float(last) + float(lower[0])) / 2
    return float(torch.nextafter(last, torch.full_like(last, -torch.inf)))


def entropy_budgets(
    entropies: Tensor, total: int, *, ratio: float = 2.0, most: int | None = None
) -> Tensor:
    """Tokens for each head: more for the half with the higher entropy.

    Args:
        entropies: of heads, ``[H]`` or ``[L, H]``, see :func:`matrix_entropy`.
        total: tokens for all heads together.
        ratio: how many times as many a head of the upper half gets.
        most: tokens that a head can have; others get what is beyond.

    Returns:
        int64 like ``entropies``, whose sum is ``total``, or ``most`` for each head if that is less.

    Raises:
        ValueError: ``total`` or ``most`` is negative, or ``ratio`` below 1.

    Source: Xiong et al., "UNComp" (2024), section 3.3. There the two halves' budgets do not keep
    the mean; here they do.
    """
    if total < 0 or not 1 <= ratio < math.inf:
        raise ValueError(
            f"'total' must not be negative and 'ratio' at least 1 (got {total} and {ratio})"
        )
    if most is not None and most < 0:
        raise ValueError(f"'most' must not be negative (got {most})")
    flat = entropies.flatten()
    weight = torch.ones_like(flat, dtype=torch.float64)
    weight[flat.argsort(descending=True, stable=True)[: len(flat) // 2]] = ratio
    budgets = torch.zeros_like(flat, dtype=torch.int64)
    places = torch.arange(len(flat), device=flat.device)  # of the heads that are not full
    left = total
    while len(places):
        share = weight[places] * (left / float(weight[places].sum()))
        full = share >= (math.inf if most is None else most)
        if not full.any():
            mine = share.floor().long()
            rest = left - int(mine.sum())
            mine[(share - mine).argsort(descending=True, stable=True)[:rest]] += 1
            budgets[places] = mine
            break
        assert most is not None
        budgets[places[full]] = most
        left -= most * int(full.sum())
        places = places[~full]
    return budgets.view_as(entropies)
