"""Gradients of the segment reductions: sums over the sets of each row, in a fixed order.

A row of ``x [N, d]`` gets a sum over the sets that hold it, of which there may be none, one or
many. ``by_row`` is :func:`~lcm_graph.kernels.segment.tasks.transpose` of the forward's segments:
every gradient is one :func:`fold` over it that gathers what it needs of the sets, so that nothing
is written by two at once, nothing is kept for each place, and results are bitwise repeatable.

Gradients have the dtype of ``x``. Give results that were kept in float32 where ``x`` is narrower:
what is subtracted from ``x`` loses digits otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lcm_graph.kernels.segment import combines
from lcm_graph.kernels.segment.tasks import Segments
from lcm_graph.kernels.segment.triton_reduce import accumulator, fold


def sum_backward(grad: Tensor, by_row: Segments, dtype: torch.dtype | None = None) -> Tensor:
    """``[N, d]`` from ``grad [S, d]``: the sum of the gradients of a row's sets."""
    (out,) = fold([grad], by_row, combines.add, [0.0], dtypes=[dtype or grad.dtype])
    return out


def mean_backward(
    grad: Tensor, size: Tensor, by_row: Segments, dtype: torch.dtype | None = None
) -> Tensor:
    """``[N, d]`` from the gradient of means ``[S, d]``, and sizes ``[S, 1]``."""
    return sum_backward(grad / size, by_row, dtype or grad.dtype)


def extremum_backward(
    grad: Tensor, x: Tensor, extremum: Tensor, segments: Segments, by_row: Segments
) -> Tensor:
    """Of maxima or minima ``extremum [S, d]``; tied elements share the gradient equally.

    An extremum that is NaN passes no gradient on.
    """
    kept = accumulator(x.dtype)
    ties = _sum([x], segments, combines.lift_equal, kept, own=[extremum])
    columns = [grad / ties, extremum]
    return _sum(columns, by_row, combines.lift_extremum_gradient, x.dtype, own=[x])


def moments_backward(
    grad_mean: Tensor, grad_m2: Tensor, x: Tensor, size: Tensor, mean: Tensor, by_row: Segments
) -> Tensor:
    """Of means and of sums of squared deviations, ``[S, d]`` each; sizes are ``[S, 1]``."""
    columns = [grad_mean / size, grad_m2, mean]
    return _sum(columns, by_row, combines.lift_moments_gradient, x.dtype, own=[x])


def logsumexp_backward(grad: Tensor, x: Tensor, out: Tensor, by_row: Segments) -> Tensor:
    """Of ``out = log Σ exp(x)``, ``[S, d]``."""
    return _sum([grad, out], by_row, combines.lift_logsumexp_gradient, x.dtype, own=[x])


def softmax_backward(
    grad_norm: Tensor,
    grad_total: Tensor,
    x: Tensor,
    logits: Tensor,
    maximum: Tensor,
    by_row: Segments,
) -> tuple[Tensor, Tensor]:
    """Of norm and total of the state of ``Σ softmax(logits) · x``: gradients of x and of logits."""
    grad_logits, grad_x = fold(
        [grad_norm, grad_total, maximum],
        by_row,
        combines.combine_pair,
        [0.0, 0.0],
        lift=combines.lift_softmax_gradient,
        own=[logits, x],
        dtypes=[logits.dtype, x.dtype],
    )
    return grad_x, grad_logits


def _sum(
    columns: Sequence[Tensor],
    segments: Segments,
    lift: Any,
    dtype: torch.dtype,
    *,
    own: Sequence[Tensor] = (),
) -> Tensor:
    """The sum over each set of what ``lift`` makes of an element."""
    (out,) = fold(
        columns,
        segments,
        combines.add,
        [0.0],
        lift=lift,
        own=own,
        dtypes=[dtype],
    )
    return out
