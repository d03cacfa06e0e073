"""Whole sentences that a question looks at, kept window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from lcm_graph.attention.memories.fold_left import fold_left
from lcm_graph.monoids.base import check_positive


def phrase_scores(attention: Tensor, weights: Tensor, *, phrase: int = 8) -> Tensor:
    r"""How much a question looks at each token and those around it.

    .. math:: s_j = \sum_r w_r^2 \sum_{i = j - \lfloor (p-1)/2 \rfloor}^{j + \lfloor p/2 \rfloor}
        A_{ri}

    Args:
        attention: A, of the question's tokens to the context's, summed over heads, ``[r, n]``.
        weights: :math:`w_r`, the attention that each of the question's tokens pays to the question
            itself, ``[r]``.
        phrase: p, tokens of an answer.

    Returns:
        ``[n]``.

    Raises:
        ValueError: a shape is another one, or ``phrase`` is not positive.

    Source: Ye et al., "InfiniRetri" (2025), section 3. Its published package squares the weights,
    its paper does not say so.
    """
    check_positive("phrase", phrase)
    if attention.dim() != 2 or weights.shape != attention.shape[:1]:
        raise ValueError(
            "'attention' must be [question, context] and 'weights' [question] "
            f"(got {list(attention.shape)} and {list(weights.shape)})"
        )
    summed = weights.square() @ attention
    if not len(summed):
        return summed
    padded = F.pad(summed, ((phrase - 1) // 2, phrase // 2))
    return padded.unfold(0, phrase, 1).sum(1)


def select_segments(scores: Tensor, segments: Tensor, count: int) -> Tensor:
    """Mark all tokens of those segments in which one of the highest scores is.

    Args:
        scores: ``[n]``.
        segments: of each token, e.g. the number of its sentence, int64 ``[n]``.
        count: highest scores whose segments are kept, whole.

    Returns:
        Bool ``[n]``.

    Raises:
        ValueError: the shapes differ, or ``count`` is not positive.
    """
    check_positive("count", count)
    if scores.dim() != 1 or scores.shape != segments.shape:
        raise ValueError(
            f"'scores' and 'segments' must be [n] (got {list(scores.shape)} and "
            f"{list(segments.shape)})"
        )
    best = scores.topk(min(count, len(scores))).indices
    return torch.isin(segments, segments[best])


def retrieve(
    score: Callable[[Tensor], Tensor],
    chunks: Iterable[Tensor],
    segments: Tensor,
    count: int,
    *,
    carry: bool = True,
) -> Tensor:
    """Read a context chunk by chunk and keep the segments that score highest.

    Args:
        score: scores ``[m]`` of the tokens at positions int64 ``[m]``, as they stand side by side.
        chunks: positions int64 of the tokens of each chunk, no token in two.
        segments: of all tokens, int64 ``[n]``.
        count: how many tokens choose: the segments in which the ``count`` highest scores lie are
            kept whole, so that more tokens are kept than these.
        carry: read each chunk behind what was kept so far, as InfiniRetri does: a left fold, whose
            answer depends on where chunks are cut and how they follow. Otherwise each is read by
            itself, and of all scores the highest count: the order does not matter.

    Returns:
        Positions that are kept, int64, ascending.

    Raises:
        TypeError: a chunk is not int64 ``[m]``.
        ValueError: ``count`` is not positive; a chunk has a position that another has, or that
            there is no segment for; scores are not one for each position, or NaN.

    Source: Ye et al., "InfiniRetri" (2025), section 3, if ``carry``.
    """
    check_positive("count", count)
    taken = torch.zeros(len(segments), dtype=torch.bool, device=segments.device)

    def checked(chunk: Tensor) -> Tensor:
        if not isinstance(chunk, Tensor) or chunk.dtype != torch.int64 or chunk.dim() != 1:
            raise TypeError(
                "'chunks' must have the positions of each chunk's tokens, int64 [m], as "
                f"torch.arange(n).split(m) has (got {chunk!r})"
            )
        within = (chunk >= 0) & (chunk < len(segments))
        if not within.all() or taken[chunk].any() or len(chunk.unique()) < len(chunk):
            raise ValueError(
                f"'chunks' must have positions from 0 to {len(segments) - 1}, each once "
                f"(got {chunk.tolist()[:20]}{' …' if len(chunk) > 20 else ''})"
            )
        taken[chunk] = True
        return chunk

    chunks = map(checked, chunks)

    def scored(positions: Tensor) -> Tensor:
        scores = score(positions)
        if scores.shape != positions.shape or scores.isnan().any():
            raise ValueError(
                f"'score' must give a number for each of the {len(positions)} positions "
                f"(got {list(scores.shape)}{', with NaN' if scores.isnan().any() else ''})"
            )
        return scores

    def best(positions: Tensor, scores: Tensor) -> Tensor:
        return positions[select_segments(scores, segments[positions], count)]

    if carry:
        empty = torch.empty(0, dtype=torch.long, device=segments.device)

        def step(kept: Tensor, chunk: Tensor) -> Tensor:
            positions = torch.cat([kept, chunk])
            return best(positions, scored(positions))

        return fold_left(step, chunks, empty, float("inf")).sort().values

    each = [(chunk, scored(chunk)) for chunk in chunks]
    if not each:
        return torch.empty(0, dtype=torch.long, device=segments.device)
    positions = torch.cat([chunk for chunk, _ in each])
    scores = torch.cat([scores for _, scores in each])
    order = positions.argsort()  # ties as in the context, whatever the chunks' order
    return best(positions[order], scores[order])
