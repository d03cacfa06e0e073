"""How much queries will make of keys, or of clusters of keys."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lcm_graph.attention.selective.checks import check_grouped, check_pool
from lcm_graph.attention.selective.heads import grouped
from lcm_graph.attention.selective.key_index import KeyIndex, check_asked
from lcm_graph.kernels.gradient_mode import known_true

REDUNDANCIES = ("unattended", "similar")


def centroid_scores(q: Tensor, index: KeyIndex, *, level: int = 0) -> Tensor:
    r"""The share of attention that a key of each cluster is expected to get.

    :math:`e^{q \bar k_c} / \sum_j N_j e^{q \bar k_j}`, the mean over the queries. Clusters without
    keys score -inf, and so are never chosen.

    Args:
        q: ``[B, H, N, D]``, the queries that will look.
        index: of their keys, whose heads they share.
        level: of the index; 0 is the finest.

    Returns:
        Float32 or wider ``[B, heads of keys, C]``.

    Raises:
        TypeError: ``index`` is none.
        ValueError: a score is NaN: of queries or keys that have such entries; there is no such
            level; or queries do not go with keys.

    Source: Hooper et al., "Squeezed Attention" (2024), equation 2; with the largest logit taken
    from all of them first, so that none overflows.
    """
    check_asked(q, index)
    if not 0 <= level < len(index.levels):
        raise ValueError(f"'level' must be from 0 to {len(index.levels) - 1} (got {level})")
    summary = index.levels[level].summary
    queries = grouped(q, index.k.size(1))
    return expected_shares(index.monoid.logits(summary, queries, index.scale), summary.size)


def expected_shares(logits: Tensor, size: Tensor, others: Tensor | None = None) -> Tensor:
    """The share of attention of a key of each cluster, the mean over the queries.

    Args:
        logits: of clusters, ``[B, heads of keys, queries, C]``, see :meth:`ClusterSummary.logits`.
        size: of these clusters, ``[B, heads of keys, C]``.
        others: logits of what else there is, ``[B, heads of keys, queries, any number]``.

    Returns:
        ``[B, heads of keys, C]``, -inf for clusters without keys; 0 if nobody asks.

    Raises:
        ValueError: a share is NaN.
    """
    empty = size == 0
    if not logits.size(-2):
        return torch.zeros_like(size).masked_fill(empty, -torch.inf)
    whole = logits.logsumexp(-1, keepdim=True)
    if others is not None:
        whole = torch.logaddexp(whole, others.logsumexp(-1, keepdim=True))
    whole = whole.masked_fill(whole == -torch.inf, 0)  # nothing is there
    of_one = torch.where(empty, 1, size).log().unsqueeze(-2)
    share = (logits - whole - of_one).exp().mean(-2).masked_fill(empty, -torch.inf)
    if known_true(share.isnan()):
        raise ValueError("'q' and the index's keys must be finite (a score is NaN)")
    return share


def observation_scores(
    q: Tensor, k: Tensor, *, pool: int = 5, causal: bool = False, scale: float | None = None
) -> Tensor:
    """The attention that the last queries pay to each key, smoothed over neighbours.

    Args:
        q: the last queries of a prompt, ``[B, H, N, D]``.
        k: ``[B, heads of keys, M, D]``.
        pool: width of the window of keys over which the mean is taken; odd.
        causal: let the last query see all keys, the one before it all but the last, and so on;
            all see all otherwise.
        scale: of the logits (default: ``D ** -0.5``).

    Returns:
        Float32 or wider ``[B, heads of keys, M]``.

    Raises:
        ValueError: ``pool`` is not odd, there are more causal queries than keys, shapes do not go
            together, or a score is NaN.

    Source: Li et al., "SnapKV" (2024), section 4; also what UNComp selects by.
    """
    check_pool(pool)
    check_grouped(q, k)
    if causal and q.size(2) > k.size(2):
        raise ValueError(
            f"'q' must have no more causal queries than there are keys (got {q.size(2)} for "
            f"{k.size(2)})"
        )
    mass = _shares(q, k, scale, causal).sum(-2)
    return F.avg_pool1d(mass, pool, stride=1, padding=pool // 2) if mass.numel() else mass


def redundancy_scores(
    q: Tensor, k: Tensor, *, kind: str = "unattended", scale: float | None = None
) -> Tensor:
    """How dispensable each key is: a reconstruction.

    TCA-Attention ranks tokens by a redundancy that its public sources do not specify. Two that
    would do: ``"unattended"``, 1 less the share of attention that the queries pay to the key (the
    largest share being 1); ``"similar"``, the largest cosine with another key.

    Args:
        q: ``[B, H, N, D]``; ``"similar"`` does not look at them.
        k: ``[B, heads of keys, M, D]``.
        kind: one of these.
        scale: of the logits (default: ``D ** -0.5``).

    Returns:
        Float32 or wider ``[B, heads of keys, M]``: 1 is most redundant.

    Raises:
        ValueError: there is no such kind, shapes do not go together, or a score is NaN.
    """
    check_grouped(q, k)
    if kind not in REDUNDANCIES:
        raise ValueError(f"'kind' must be one of {', '.join(REDUNDANCIES)} (got {kind!r})")
    if not k.numel():
        return k.new_zeros(k.shape[:-1], dtype=torch.promote_types(k.dtype, torch.float32))
    if kind == "unattended":
        mass = _shares(q, k, scale).sum(-2)
        return 1 - mass / mass.amax(-1, keepdim=True).clamp_min(torch.finfo(mass.dtype).tiny)
    unit = F.normalize(k.to(torch.promote_types(k.dtype, torch.float32)), dim=-1)
    cosine = unit @ unit.mT
    own = torch.eye(k.size(2), dtype=torch.bool, device=k.device)
    return cosine.masked_fill(own, -1).amax(-1)


def _shares(q: Tensor, k: Tensor, scale: float | None, causal: bool = False) -> Tensor:
    """Attention of grouped queries, ``[B, heads of keys, queries, M]``."""
    scale = q.size(-1) ** -0.5 if scale is None else scale
    wide = torch.promote_types(q.dtype, torch.float32)
    logits: Tensor = scale * (grouped(q, k.size(1)).to(wide) @ k.to(wide).mT)
    if causal:
        n, m = q.size(2), k.size(2)
        hidden = torch.ones(n, m, dtype=torch.bool, device=q.device).triu(m - n + 1)
        logits = logits.masked_fill(hidden.repeat(logits.size(2) // max(1, n), 1), -torch.inf)
    shares = logits.softmax(-1)
    if known_true(shares.isnan()):
        raise ValueError("'q' and 'k' must be finite (a score is NaN)")
    return shares
