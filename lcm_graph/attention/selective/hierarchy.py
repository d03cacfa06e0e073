"""Clusters found by looking at clusters of clusters first."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_graph.attention.selective.budgets import top_fraction
from lcm_graph.attention.selective.key_index import KeyIndex
from lcm_graph.attention.selective.scores import centroid_scores


def hierarchical_clusters(
    q: Tensor, index: KeyIndex, fraction: float, *, coarse_fraction: float
) -> tuple[Tensor, Tensor]:
    """Mark clusters by looking at coarse ones first.

    Args:
        q: ``[B, H, N, D]``.
        index: of two levels.
        fraction: of the tokens to keep.
        coarse_fraction: of the tokens whose coarse clusters are looked into.

    Returns:
        Marks ``[B, heads of keys, C]`` of the fine clusters, and how many centroids each head had
        to look at, ``[B, heads of keys]``.

    Raises:
        ValueError: the index has one level, or a fraction is out of range.
    """
    if len(index.levels) < 2:
        raise ValueError("'index' must have two levels: build it with coarse=…")
    fine, coarse = index.levels
    marks = top_fraction(centroid_scores(q, index, level=1), coarse_fraction, coarse.summary.size)
    open_ = marks.gather(2, coarse.labels)  # fine clusters that are looked at
    scores = centroid_scores(q, index).masked_fill(~open_, -torch.inf)
    kept = top_fraction(scores, fraction, fine.summary.size)
    looked = (fine.summary.size > 0) & open_
    return kept, looked.sum(-1) + (coarse.summary.size > 0).sum(-1)
