"""The reductions of the closed-form monoids; each reads its elements once.

``x [N, d]`` is floating point with any strides, ``segments`` are S sets of its rows
(:func:`~lcm_graph.kernels.segment.tasks.plan`). Half precision is accumulated in float32, and
``dtype`` says how results are kept (default: as ``x``; sizes in float32 at least). What states
hold, and what an empty set answers, is as :mod:`lcm_graph.monoids` says.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_graph.kernels.segment import combines
from lcm_graph.kernels.segment.tasks import Segments
from lcm_graph.kernels.segment.triton_reduce import accumulator, fold

INFINITY = float("inf")


def segment_sum(x: Tensor, segments: Segments, dtype: torch.dtype | None = None) -> Tensor:
    """Sums ``[S, d]``."""
    (out,) = fold([x], segments, combines.add, [0.0], dtypes=[dtype or x.dtype])
    return out


def segment_max(x: Tensor, segments: Segments) -> Tensor:
    """Maxima ``[S, d]``; NaN where a set holds one."""
    (out,) = fold([x], segments, combines.maximum, [-INFINITY])
    return out


def segment_min(x: Tensor, segments: Segments) -> Tensor:
    """Minima ``[S, d]``; NaN where a set holds one."""
    (out,) = fold([x], segments, combines.minimum, [INFINITY])
    return out


def segment_mean(
    x: Tensor, segments: Segments, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """Means ``[S, d]`` and sizes ``[S, 1]``."""
    mean, size = fold(
        [x],
        segments,
        combines.combine_mean,
        [0.0, 0.0],
        lift=combines.lift_mean,
        narrow=[False, x.size(1) > 1],
        dtypes=[dtype or x.dtype, accumulator(x.dtype)],
    )
    return mean, size


def segment_moments(
    x: Tensor, segments: Segments, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Sizes ``[S, 1]``, means ``[S, d]`` and sums of squared deviations from them ``[S, d]``."""
    dtype = dtype or x.dtype
    size, mean, m2 = fold(
        [x],
        segments,
        combines.combine_moments,
        [0.0, 0.0, 0.0],
        lift=combines.lift_moments,
        narrow=[x.size(1) > 1, False, False],
        dtypes=[accumulator(x.dtype), dtype, dtype],
    )
    return size, mean, m2


def segment_logsumexp(x: Tensor, segments: Segments, dtype: torch.dtype | None = None) -> Tensor:
    """``log Σ exp(x)``: ``[S, d]``."""
    (out,) = fold(
        [x],
        segments,
        combines.combine_logsumexp,
        [-INFINITY, 0.0],
        lift=combines.lift_logsumexp,
        lower=combines.lower_logsumexp,
        dtypes=[dtype or x.dtype],
    )
    return out


def segment_softmax(
    x: Tensor,
    segments: Segments,
    temperature: Tensor,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The state of ``Σ softmax(t · x) · x``: maximum, norm and total, ``[S, d]`` each.

    ``temperature`` is one number, on the device of ``x``.
    """
    maximum, norm, total = fold(
        [x],
        segments,
        combines.combine_softmax,
        [-INFINITY, 0.0, 0.0],
        lift=combines.lift_softmax,
        parameters=[temperature.detach()],
        dtypes=[dtype or x.dtype] * 3,
    )
    return maximum, norm, total


def segment_attention(
    x: Tensor, logits: Tensor, segments: Segments, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The state of ``Σ softmax(logits) · x``; maximum and norm have the width of the logits.

    ``logits`` is ``[N, d]`` or ``[N, 1]``.
    """
    shared = logits.size(1) < x.size(1)
    maximum, norm, total = fold(
        [x, logits],
        segments,
        combines.combine_softmax,
        [-INFINITY, 0.0, 0.0],
        lift=combines.lift_weighted,
        narrow=[shared, shared, False],
        dtypes=[dtype or x.dtype] * 3,
    )
    return maximum, norm, total
