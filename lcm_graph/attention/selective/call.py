"""``selective_attention``: some keys exactly, the others dropped, summarised or sampled."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_graph.attention.dense import attend
from lcm_graph.attention.selective.checks import check_marks, check_tail
from lcm_graph.attention.selective.heads import grouped, marked_rows, rows_of, ungrouped
from lcm_graph.attention.selective.key_index import KeyIndex, check_asked, summarize_tokens
from lcm_graph.attention.states import AttentionState, ClusterState, merge
from lcm_graph.monoids.base import check_at_least
from lcm_graph.monoids.state import map_state


def selective_attention(
    q: Tensor,
    index: KeyIndex,
    *,
    clusters: Tensor | None = None,
    tokens: Tensor | None = None,
    tail: str = "summary",
    samples: int = 64,
    generator: torch.Generator | None = None,
) -> AttentionState:
    """Attention to the keys chosen, merged with what stands for the rest.

    All queries see all keys of the index, which is a context that lies before them. Merge the
    result with attention to what comes after: ``merge(selective_attention(q, index, …),
    attend(q, k, v, causal=True))``.

    Args:
        q: ``[B, H, N, D]``.
        index: of keys with as many heads or a divisor of them.
        clusters: which clusters to look into, bool ``[B, heads of keys, C]``.
        tokens: or which keys to look at, bool ``[B, heads of keys, M]``.
        tail: what becomes of the others. ``"drop"``: nothing, as most systems do. ``"summary"``:
            each cluster's rest is one pseudo-token, see :class:`ClusterSummary`. ``"sample"``:
            ``samples`` of them, drawn uniformly with replacement for each head, that count for
            all: an unbiased estimate of what softmax adds up, above and below the line.
        samples: how many.
        generator: source of randomness on the queries' device; the global one if ``None``.

    Returns:
        ``out [B, H, N, C]`` and ``lse [B, H, N]``, float32 or wider. Differentiable in queries,
        keys and values; what was chosen is a constant.

    Raises:
        TypeError: ``index`` is none.
        ValueError: ``q`` does not go with the index's keys, neither or both of ``clusters`` and
            ``tokens`` are given, a shape is another one, there is no such tail, or ``samples`` is
            below 1.
    """
    check_asked(q, index)
    if (clusters is None) == (tokens is None):
        raise ValueError("give either 'clusters' or 'tokens' (got both or neither)")
    check_tail(tail)
    check_at_least("samples", samples, 1)
    wanted = index.summary.size.shape if tokens is None else index.labels.shape
    marks = clusters if tokens is None else tokens
    assert marks is not None
    check_marks("clusters" if tokens is None else "tokens", marks, wanted)
    kept = index.tokens(marks) if tokens is None else tokens
    queries = grouped(q, index.k.size(1))
    state = _exact(queries, index, kept)
    if tail == "summary":
        rest = _rest_of_clusters(index, clusters, kept)
        state = merge(state, read_summary(queries, index, rest))
    elif tail == "sample":
        state = merge(state, _sampled(queries, index, kept, samples, generator))
    return ungrouped(state, q)


def read_summary(queries: Tensor, index: KeyIndex, summary: ClusterState) -> AttentionState:
    """What grouped queries gather of clusters, each of which is one pseudo-token.

    Args:
        queries: ``[B, heads of keys, m, D]``.
        index: whose scale and kind of summary it is.
        summary: ``[B, heads of keys, C]``.
    """
    if summary.key_products is None:
        keys, values = index.monoid.means(summary)
        there = summary.size > 0
        count = torch.where(there, summary.size, 1).log().masked_fill(~there, -torch.inf)
        return attend(
            queries.to(keys.dtype), keys, values, bias=count.unsqueeze(-2), scale=index.scale
        )
    each = index.monoid.read(summary, queries, index.scale)
    shift = each.lse.detach().amax(-1, keepdim=True)
    shift = shift.masked_fill(shift == -torch.inf, 0)
    share = (each.lse - shift).exp()
    total = share.sum(-1)
    none = total == 0
    safe = torch.where(none, 1, total)
    out = torch.einsum("bhmn,bhmnc->bhmc", share, each.out) / safe.unsqueeze(-1)
    return AttentionState(out, (shift.squeeze(-1) + safe.log()).masked_fill(none, -torch.inf))


def _exact(queries: Tensor, index: KeyIndex, kept: Tensor) -> AttentionState:
    """Attention to the keys marked, gathered; heads that keep fewer are padded."""
    rows, there = marked_rows(kept)
    k, v = (rows_of(tensor, rows) for tensor in (index.k, index.v))
    mask = None if bool(there.all()) else there.unsqueeze(-2)
    return attend(queries, k, v, mask=mask, scale=index.scale)


def _rest_of_clusters(index: KeyIndex, clusters: Tensor | None, kept: Tensor) -> ClusterState:
    """Summaries of what is not kept."""
    if clusters is not None:
        blank = index.monoid.identity(1, dtype=index.summary.keys.dtype, device=kept.device)
        return map_state(
            lambda t, e: torch.where(clusters.view(*clusters.shape, *[1] * (t.dim() - 3)), e, t),
            index.summary,
            map_state(lambda e: e.unsqueeze(0).unsqueeze(0), blank),
        )
    return summarize_tokens(index.monoid, index.k, index.v, index.labels, ~kept)


def _sampled(
    queries: Tensor,
    index: KeyIndex,
    kept: Tensor,
    samples: int,
    generator: torch.Generator | None,
) -> AttentionState:
    """Some of the keys that are not kept, each for as many as it stands for."""
    rest = (~kept).sum(-1)
    order = kept.to(torch.uint8).argsort(dim=-1, stable=True)  # those that are not kept first
    draw = torch.rand(*rest.shape, samples, generator=generator, device=kept.device)
    place = (draw * rest.unsqueeze(-1)).long().clamp(max=max(0, kept.size(-1) - 1))
    if not kept.size(-1):
        place = place[..., :0]
    rows = order.gather(-1, place)
    weight = (rest.clamp(min=1) / samples).log().masked_fill(rest == 0, -torch.inf)
    k, v = (rows_of(tensor, rows) for tensor in (index.k, index.v))
    return attend(queries, k, v, bias=weight[..., None, None], scale=index.scale)
