"""What of a context is kept, and how it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from lcm_graph.attention.dense import attend
from lcm_graph.attention.selective import (
    KeyIndex,
    centroid_scores,
    entropy_budgets,
    matrix_entropy,
    observation_scores,
    selective_attention,
    top_tokens,
)
from lcm_graph.attention.selective.budgets import mark_fraction
from lcm_graph.attention.selective.checks import (
    check_fraction,
    check_pool,
    check_ratio,
    check_tail,
)
from lcm_graph.attention.selective.heads import marked_rows, rows_of
from lcm_graph.attention.selective.key_index import number_of_clusters
from lcm_graph.attention.states import AttentionState, merge
from lcm_graph.attention.windows import Rope
from lcm_graph.monoids.base import check_at_least, check_positive


class Recorded(NamedTuple):
    """A context as one layer saw it."""

    q: Tensor  # [B, H, window, D]: its last queries
    k: Tensor  # [B, heads, M, D]
    v: Tensor  # [B, heads, M, D]
    surprisal: Tensor  # [B, M]: -log of each token's probability; the first has the mean
    scale: float
    indices: dict[tuple[float, int, int], KeyIndex]  # which policies share: clusters, first, latest


class Kept(Protocol):
    """What one layer keeps of a context."""

    def attend(self, q: Tensor, positions: Tensor) -> AttentionState:
        """What queries ``[B, H, N, D]`` at ``positions [B, N]`` or ``[N]`` gather of it."""


class Policy(Protocol):
    """How a layer's context becomes what it keeps."""

    def keep(self, seen: Recorded) -> Kept:
        """Choose."""


@dataclass(frozen=True)
class Tokens:
    """Keys and values; heads that keep fewer are filled up."""

    k: Tensor
    v: Tensor
    there: Tensor | None  # bool [B, heads, tokens]
    scale: float

    @classmethod
    def of(cls, seen: Recorded, marks: Tensor) -> Tokens:
        """Those marked, bool ``[B, heads, M]``, in their order."""
        rows, there = marked_rows(marks)
        k, v = rows_of(seen.k, rows), rows_of(seen.v, rows)
        return cls(k, v, None if bool(there.all()) else there, seen.scale)

    def attend(self, q: Tensor, positions: Tensor) -> AttentionState:
        mask = None
        if self.there is not None:
            group = q.size(1) // self.k.size(1)
            mask = self.there.repeat_interleave(group, 1).unsqueeze(2)
        return attend(q, self.k, self.v, mask=mask, scale=self.scale)


@dataclass(frozen=True)
class Everything:
    """All of the context."""

    def keep(self, seen: Recorded) -> Tokens:
        return Tokens(seen.k, seen.v, None, seen.scale)


@dataclass(frozen=True)
class _Fraction:
    """Base: a part of a context."""

    fraction: float

    def __post_init__(self) -> None:
        check_fraction("fraction", self.fraction)


@dataclass(frozen=True)
class FirstAndLatest(_Fraction):
    """The first tokens and the latest: LM-Infinite, StreamingLLM.

    Args:
        fraction: of the tokens, the first ones among them.
        n_sink: first tokens, which are kept also where a fraction is fewer.
        rope: the model's rotary embedding (:func:`~lcm_graph.attention.hf.rope_of`), if the first
            tokens are to seem ``limit`` away, as in LM-Infinite; as far as they are, if ``None``.
        limit: how far; the number of latest tokens, if ``None``.
    """

    n_sink: int = 4
    rope: Rope | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("n_sink", self.n_sink)
        if self.limit is not None:
            check_at_least("limit", self.limit)

    def keep(self, seen: Recorded) -> Kept:
        m = seen.k.size(2)
        latest = max(0, round(self.fraction * m) - self.n_sink)
        place = torch.arange(m, device=seen.k.device)
        shape = seen.k.shape[:3]
        near = Tokens.of(seen, (place >= max(self.n_sink, m - latest)).expand(shape))
        first = Tokens.of(seen, (place < self.n_sink).expand(shape))
        if self.rope is None:
            return _Both(first, near)
        if self.rope.features != seen.k.size(3):
            raise ValueError(
                f"'rope' must turn the {seen.k.size(3)} features of a head (got {self.rope}); see "
                "rope_of(model)"
            )
        still = first.k.size(2)
        turned_back = self.rope(first.k, -torch.arange(still, device=first.k.device))
        limit = latest if self.limit is None else self.limit
        return _Both(Tokens(turned_back, first.v, first.there, first.scale), near, self.rope, limit)


@dataclass(frozen=True)
class _Both:
    """First tokens, perhaps at one distance from all queries, and others."""

    first: Tokens
    near: Tokens
    rope: Rope | None = None
    limit: int = 0

    def attend(self, q: Tensor, positions: Tensor) -> AttentionState:
        far = q
        if self.rope is not None:
            at = positions if positions.dim() == 1 else positions.unsqueeze(1)
            far = self.rope(q, self.limit - at)
        return merge(self.near.attend(q, positions), self.first.attend(far, positions))


@dataclass(frozen=True)
class Surprisal(_Fraction):
    """The first tokens, and those that were least to be expected: SirLLM.

    Args:
        fraction: of the tokens.
        n_sink: first tokens, which are kept also where a fraction is fewer.

    Source: Yao et al., "SirLLM: Streaming Infinite Retentive LLM" (2024), section 3.
    """

    n_sink: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("n_sink", self.n_sink)

    def keep(self, seen: Recorded) -> Tokens:
        scores = seen.surprisal.clone()
        scores[:, : self.n_sink] = torch.inf
        budget = max(self.n_sink, round(self.fraction * scores.size(1)))
        marks = top_tokens(scores.unsqueeze(1), budget)
        return Tokens.of(seen, marks.expand(seen.k.shape[:3]))


@dataclass(frozen=True)
class HeadEntropy(_Fraction):
    """What the last queries looked at, more of it for heads whose queries spread: UNComp.

    Args:
        fraction: of the tokens, over all heads of a layer.
        pool: see :func:`observation_scores`.
        ratio: see :func:`entropy_budgets`; 1 gives all heads as many (SnapKV).
        window: latest tokens, which are kept, of half of the fraction at most.

    Source: Li et al., "SnapKV" (2024), section 4; Xiong et al., "UNComp" (2024), section 3, of each
    layer's heads here, which share keys.
    """

    pool: int = 5
    ratio: float = 2.0
    window: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("window", self.window)
        check_pool(self.pool)
        check_ratio(self.ratio)

    def keep(self, seen: Recorded) -> Tokens:
        heads, m = seen.k.size(1), seen.k.size(2)
        entropy = matrix_entropy(seen.q.unflatten(1, (heads, -1)).flatten(2, 3)).mean(0)
        total = round(self.fraction * m) * heads
        budgets = entropy_budgets(entropy, total, ratio=self.ratio, most=m)
        scores = observation_scores(seen.q, seen.k, pool=self.pool, causal=True, scale=seen.scale)
        latest = min(self.window, round(self.fraction * m) // 2)
        scores[..., m - latest :] = torch.inf
        return Tokens.of(seen, top_tokens(scores, budgets.to(scores.device)))


@dataclass(frozen=True)
class Clusters(_Fraction):
    """Clusters that the queries ask for, looked up by their centroids: Squeezed Attention.

    Unlike the others it keeps all keys, and chooses anew for each query, or each block of them.
    The first tokens, which most queries look at whatever they say, and the latest are in no
    cluster: a centroid of such a key and others tells of neither.

    Args:
        fraction: of the tokens that queries look at, the first and the latest ones among them.
        tail: what becomes of the others, see :func:`selective_attention`.
        clusters: of the other tokens, see :meth:`KeyIndex.build`.
        block: queries that choose together, so that later ones have a say in what earlier ones of
            the block see.
        n_sink: first tokens, which are looked at also where a fraction is fewer.
        window: latest tokens, of half of the fraction at most (the authors' code has 100, and no
            first ones).
    """

    tail: str = "summary"
    clusters: float = 0.05
    block: int = 1
    n_sink: int = 4
    window: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("block", self.block)
        check_tail(self.tail)
        number_of_clusters(self.clusters, 1, "clusters")
        check_at_least("n_sink", self.n_sink)
        check_at_least("window", self.window)

    def keep(self, seen: Recorded) -> Kept:
        m = seen.k.size(2)
        budget = round(self.fraction * m)
        first = min(self.n_sink, m)
        latest = max(0, min(self.window, (budget - first) // 2))
        place = torch.arange(m, device=seen.k.device)
        always = Tokens.of(seen, ((place < first) | (place >= m - latest)).expand(seen.k.shape[:3]))
        rest = m - first - latest
        if not rest:
            return always
        wanted = (self.clusters, first, latest)
        if wanted not in seen.indices:
            k, v = seen.k[:, :, first : m - latest], seen.v[:, :, first : m - latest]
            seen.indices[wanted] = KeyIndex.build(k, v, clusters=self.clusters, scale=seen.scale)
        fraction = max(0, budget - first - latest) / rest
        return _Looked(always, seen.indices[wanted], fraction, self.tail, self.block)


@dataclass(frozen=True)
class _Looked:
    """Tokens that all queries see, and others of which each sees what it asks for."""

    always: Tokens
    index: KeyIndex
    fraction: float
    tail: str
    block: int

    def attend(self, q: Tensor, positions: Tensor) -> AttentionState:
        states = [self._asked(some) for some in q.split(self.block, dim=2)]
        out, lse = (torch.cat(parts, dim=2) for parts in zip(*states, strict=True))
        return merge(self.always.attend(q, positions), AttentionState(out, lse))

    def _asked(self, q: Tensor) -> AttentionState:
        scores = centroid_scores(q, self.index)
        kept = mark_fraction(scores, self.fraction, self.index.summary.size)
        return selective_attention(q, self.index, clusters=kept, tail=self.tail)
