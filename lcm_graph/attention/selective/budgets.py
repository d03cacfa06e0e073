"""What to keep: from scores to marks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lcm_graph.attention.selective.checks import (
    check_fraction,
    check_ratio,
    check_scores,
)
from lcm_graph.kernels.gradient_mode import known_true
from lcm_graph.monoids.base import check_at_least


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
        ValueError: ``fraction`` is not from 0 to 1, a score is NaN, or ``sizes`` have another
            shape, or are negative or NaN.
    """
    check_scores("scores", scores)
    if sizes is not None and known_true(~(sizes >= 0)):
        raise ValueError("'sizes' must not be negative or NaN (got one that is)")
    return mark_fraction(scores, fraction, sizes)


def mark_fraction(scores: Tensor, fraction: float, sizes: Tensor | None = None) -> Tensor:
    """:func:`top_fraction` of scores that are known to be numbers."""
    check_fraction("fraction", fraction)
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


def top_tokens(scores: Tensor, budgets: Tensor | int | Sequence[int]) -> Tensor:
    """Mark the highest scores of each head, as many as its budget.

    Args:
        scores: ``[B, H, M]``; -inf is never marked.
        budgets: tokens to keep, a number, or integers that broadcast over ``[B, H]``; all, if it is
            more than there are. For a fraction of them see :func:`top_fraction`.

    Returns:
        Bool ``[B, H, M]``.

    Raises:
        ValueError: a score is NaN, or ``budgets`` are not whole numbers, negative, or of another
            shape.
    """
    check_scores("scores", scores)
    wanted = torch.as_tensor(budgets)
    if wanted.is_floating_point() or wanted.dtype == torch.bool:
        raise ValueError(
            f"'budgets' must be integers (got {wanted.dtype}); see top_fraction for a fraction"
        )
    if known_true(wanted < 0):
        raise ValueError(f"'budgets' must not be negative (got {int(wanted.min())})")
    try:
        wanted = wanted.to(scores.device).expand(scores.shape[:-1])
    except RuntimeError as error:
        raise ValueError(
            f"'budgets' must broadcast over {list(scores.shape[:-1])} (got {list(wanted.shape)})"
        ) from error
    order = scores.argsort(dim=-1, descending=True, stable=True)
    rank = order.argsort(dim=-1)
    return (rank < wanted.unsqueeze(-1)) & (scores > -torch.inf)


def global_threshold(scores: Sequence[Tensor], sizes: Sequence[Tensor], fraction: float) -> float:
    """The score above which a fraction of all tokens of all layers and heads lies, or the least
    more that whole clusters, and clusters of equal scores, make.

    Heads whose attention is spread out thereby keep more than others.

    Args:
        scores: of clusters, ``[B, H, C]`` for each layer, from calibration queries.
        sizes: their tokens, likewise.
        fraction: from 0 to 1, of the tokens.

    Raises:
        ValueError: ``fraction`` is not from 0 to 1, a score is NaN, or ``sizes`` are not of the
            clusters that have scores.

    Source: Hooper et al., "Squeezed Attention" (2024), section 3.3.
    """
    check_fraction("fraction", fraction)
    scores, sizes = list(scores), list(sizes)
    shapes = [[list(one.shape) for one in each] for each in (scores, sizes)]
    if shapes[0] != shapes[1] or not shapes[0]:
        raise ValueError(
            "'sizes' must have the shapes of 'scores', of a layer at least (got "
            f"{shapes[1]} for {shapes[0]})"
        )
    for one in scores:
        check_scores("scores", one)
    score = torch.cat([one.detach().flatten() for one in scores])
    size = torch.cat([one.flatten() for one in sizes]).to(score)
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
        entropies: of heads, ``[H]`` or ``[L, H]``, see :func:`matrix_entropy`; of a batch, whose
            sequences share the budgets, take the mean first.
        total: tokens for all heads together.
        ratio: how many times as many a head of the upper half gets.
        most: tokens that a head can have; others get what is beyond.

    Returns:
        int64 like ``entropies``, whose sum is ``total``, or ``most`` for each head if that is less.

    Raises:
        ValueError: ``total`` or ``most`` is no whole number or negative, ``ratio`` below 1, or an
            entropy NaN.

    Source: Xiong et al., "UNComp" (2024), section 3.3. There the two halves' budgets do not keep
    the mean; here they do.
    """
    total = check_at_least("total", total)
    check_ratio(ratio)
    check_scores("entropies", entropies)
    if most is not None:
        most = check_at_least("most", most)
    flat = entropies.flatten()
    weight = torch.ones_like(flat, dtype=torch.float64)
    weight[flat.argsort(descending=True, stable=True)[: len(flat) // 2]] = ratio
    budgets = torch.zeros_like(flat, dtype=torch.int64)
    places = torch.arange(len(flat), device=flat.device)  # of the heads that are not full
    left = total
    while len(places):
        share = weight[places] * (left / float(weight[places].sum()))
        full = share >= (torch.inf if most is None else most)
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
