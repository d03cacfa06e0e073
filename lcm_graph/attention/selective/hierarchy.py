"""Clusters found by looking at clusters of clusters first."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_graph.attention.selective.budgets import mark_fraction
from lcm_graph.attention.selective.checks import check_fraction
from lcm_graph.attention.selective.heads import grouped, marked_rows
from lcm_graph.attention.selective.key_index import KeyIndex, check_asked
from lcm_graph.attention.selective.scores import expected_shares
from lcm_graph.monoids.state import map_state


def hierarchical_clusters(
    q: Tensor, index: KeyIndex, fraction: float, *, coarse_fraction: float
) -> tuple[Tensor, Tensor]:
    """Mark clusters by looking at coarse ones first, and then at what is in the best of them.

    Clusters that are not looked into are there as the coarse ones that they are in: the scores of
    others are as near to :func:`centroid_scores` as these summaries are, and the same if all are
    looked into.

    Args:
        q: ``[B, H, N, D]``.
        index: of two levels.
        fraction: of the tokens to keep.
        coarse_fraction: of the tokens whose coarse clusters are looked into.

    Returns:
        Marks ``[B, heads of keys, C]`` of the fine clusters, and how many centroids each head
        looked at, ``[B, heads of keys]``.

    Raises:
        TypeError: ``index`` is none.
        ValueError: the index has one level, a fraction is out of range, or queries do not go with
            keys.

    Source: Hooper et al., "Squeezed Attention" (2024), whose hierarchical lookup it is.
    """
    if len(index.levels) < 2:
        raise ValueError("'index' must have two levels: build it with coarse=…")
    check_asked(q, index)
    check_fraction("fraction", fraction)
    check_fraction("coarse_fraction", coarse_fraction)
    fine, coarse = (level.summary for level in index.levels[:2])
    queries = grouped(q, index.k.size(1))
    of_coarse = index.monoid.logits(coarse, queries, index.scale)
    marks = mark_fraction(expected_shares(of_coarse, coarse.size), coarse_fraction, coarse.size)
    opened = marks.gather(2, index.levels[1].labels) & (fine.size > 0)
    rows, there = marked_rows(opened)
    some = map_state(lambda field: _gathered(field, rows), fine)
    some = some._replace(size=some.size.masked_fill(~there, 0))
    shares = expected_shares(
        index.monoid.logits(some, queries, index.scale),
        some.size,
        others=of_coarse.masked_fill(marks.unsqueeze(-2), -torch.inf),
    )
    # Rows that fill up are of clusters that are not opened: they score -inf, as others do.
    scores = shares.new_full(fine.size.shape, -torch.inf).scatter(2, rows, shares)
    looked = there.sum(-1) + (coarse.size > 0).sum(-1)
    return mark_fraction(scores, fraction, fine.size), looked


def _gathered(field: Tensor, rows: Tensor) -> Tensor:
    """Clusters ``[B, H, C, …]`` at ``rows`` int64 ``[B, H, K]``."""
    wide = rows.view(*rows.shape, *[1] * (field.dim() - 3))
    return field.gather(2, wide.expand(*rows.shape, *field.shape[3:]))
