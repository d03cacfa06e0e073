"""The segment reductions as plainly as they can be said: what the quick paths are held to.

Names, arguments and results are those of the Triton modules; operators are functions of tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from lcm_graph.kernels.segment.tasks import Segments

Columns = tuple[Tensor, ...]
INFINITY = float("inf")


def fold(
    columns: Sequence[Tensor],
    segments: Segments,
    combine: Callable[..., Tensor | Columns],
    identity: Sequence[float],
    *,
    lift: Callable[..., Tensor | Columns] | None = None,
    lower: Callable[..., Tensor] | None = None,
    own: Sequence[Tensor] = (),
    parameters: Sequence[Tensor] = (),
    narrow: Sequence[bool] | None = None,
    dtypes: Sequence[torch.dtype] | None = None,
) -> Columns:
    """Fold each set by pairing neighbours until one is left; a last odd one moves up unpaired."""
    d = max(column.size(1) for column in (*columns, *own))
    if narrow is None:
        narrow = [lift is None and column.size(1) < d for column in columns]
        narrow = [*narrow, *[False] * (len(identity) - len(narrow))][: len(identity)]
    folds = []
    for s, rows in enumerate(_rows(segments)):
        level: list[Columns] = []
        for row in rows.tolist():
            element = [_wide(column[row : row + 1]) for column in columns]
            mine = [_wide(column[s : s + 1]) for column in own]
            level.append(_tuple(lift(*mine, *element, *parameters)) if lift else tuple(element))
        while len(level) > 1:
            pairs = [_tuple(combine(*level[i], *level[i + 1])) for i in range(0, len(level) - 1, 2)]
            level = [*pairs, level[-1]] if len(level) % 2 else pairs
        empty = tuple(
            torch.full((1, 1 if one else d), value, dtype=_wide(columns[0]).dtype)
            for value, one in zip(identity, narrow, strict=True)
        )
        state = level[0] if level else empty
        folds.append((lower(*state),) if lower else state)
    kept = dtypes or ([columns[0].dtype] * 9 if lift else [column.dtype for column in columns])
    return tuple(torch.cat(column).to(kept[j]) for j, column in enumerate(zip(*folds, strict=True)))


def segment_sum(x: Tensor, segments: Segments, dtype: torch.dtype | None = None) -> Tensor:
    return _each(x, segments, lambda e: e.sum(0), dtype)


def segment_max(x: Tensor, segments: Segments) -> Tensor:
    return _each(x, segments, lambda e: e.amax(0) if len(e) else e.sum(0) - INFINITY)


def segment_min(x: Tensor, segments: Segments) -> Tensor:
    return _each(x, segments, lambda e: e.amin(0) if len(e) else e.sum(0) + INFINITY)


def segment_mean(
    x: Tensor, segments: Segments, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    mean = _each(x, segments, lambda e: e.mean(0) if len(e) else e.sum(0), dtype)
    return mean, segments.ptr.diff().unsqueeze(1).to(_wide(x).dtype)


def segment_moments(
    x: Tensor, segments: Segments, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    mean, size = segment_mean(x, segments, dtype)
    m2 = _each(x, segments, lambda e: (e - e.mean(0)).square().sum(0), dtype)
    return size, mean, m2


def segment_logsumexp(x: Tensor, segments: Segments, dtype: torch.dtype | None = None) -> Tensor:
    return _each(x, segments, lambda e: e.logsumexp(0), dtype)


def segment_softmax(
    x: Tensor, segments: Segments, temperature: Tensor, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    scaled = _wide(x) * temperature.to(_wide(x).dtype)
    return segment_attention(x, scaled, segments, dtype or x.dtype)


def segment_attention(
    x: Tensor, logits: Tensor, segments: Segments, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    maximum = segment_max(_wide(logits), segments)
    norms, totals = [], []
    for s, rows in enumerate(_rows(segments)):
        weights = (_wide(logits)[rows] - maximum[s]).exp()
        norms.append(weights.sum(0))
        totals.append((weights * _wide(x)[rows]).sum(0))
    states = maximum, torch.stack(norms), torch.stack(totals)
    maximum, norm, total = (state.to(dtype or x.dtype) for state in states)
    return maximum, norm, total


def _each(
    x: Tensor,
    segments: Segments,
    reduce: Callable[[Tensor], Tensor],
    dtype: torch.dtype | None = None,
) -> Tensor:
    wide = _wide(x)
    return torch.stack([reduce(wide[rows]) for rows in _rows(segments)]).to(dtype or x.dtype)


def _rows(segments: Segments) -> Iterator[Tensor]:
    """The rows of each set, in order."""
    ptr = segments.ptr.tolist()
    places = torch.arange(ptr[-1])
    rows = places if segments.permutation is None else segments.permutation
    for s in range(len(ptr) - 1):
        yield rows[ptr[s] : ptr[s + 1]]


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _tuple(value: Tensor | Columns) -> Columns:
    return (value,) if isinstance(value, Tensor) else value
