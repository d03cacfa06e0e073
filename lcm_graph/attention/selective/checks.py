"""What numbers, scores and heads must be."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lcm_graph.kernels.gradient_mode import known_true
from lcm_graph.monoids.base import check_at_least

TAILS = ("drop", "summary", "sample")


def check_fraction(name: str, fraction: float) -> None:
    """Raises ValueError if it is not from 0 to 1."""
    if not 0 <= fraction <= 1:
        raise ValueError(f"'{name}' must be from 0 to 1 (got {fraction!r})")


def check_scores(name: str, scores: Tensor) -> None:
    """Raises ValueError if they are no Tensor ``[…, n]``, or one is NaN."""
    if not isinstance(scores, Tensor) or not scores.dim():
        got = "a number" if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(f"'{name}' must be a Tensor, one for each key or more (got {got})")
    if known_true(scores.isnan()):
        raise ValueError(f"'{name}' must be numbers (got NaN, as of queries or keys with NaN)")


def check_tail(tail: str) -> None:
    """Raises ValueError if there is no such tail."""
    if tail not in TAILS:
        raise ValueError(f"'tail' must be one of {', '.join(TAILS)} (got {tail!r})")


def check_pool(pool: int) -> None:
    """Raises ValueError if it is not odd."""
    if check_at_least("pool", pool, 1) % 2 == 0:
        raise ValueError(f"'pool' must be odd (got {pool})")


def check_ratio(ratio: float) -> None:
    """Raises ValueError if it is below 1, or infinite."""
    if not 1 <= ratio < math.inf:
        raise ValueError(f"'ratio' must be at least 1 (got {ratio!r})")


def check_grouped(q: Tensor, k: Tensor) -> None:
    """Raises ValueError if ``q [B, H, N, D]`` does not go with ``k [B, a divisor of H, M, D]``."""
    for name, tensor in (("q", q), ("k", k)):
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or tensor.dim() != 4:
            got = f"{tensor.dtype} {list(tensor.shape)}" if isinstance(tensor, Tensor) else tensor
            raise ValueError(
                f"'{name}' must be floating point [batch, heads, tokens, features] (got {got})"
            )
    fits = q.size(0) == k.size(0) and q.size(3) == k.size(3) and k.size(1) > 0
    if not fits or q.size(1) % k.size(1):
        raise ValueError(
            "'q' must have the batch and features of 'k', and a multiple of its heads (got "
            f"{list(q.shape)} for {list(k.shape)})"
        )


def check_marks(name: str, marks: Tensor, shape: torch.Size) -> None:
    """Raises ValueError if they are not bool of this shape."""
    if not isinstance(marks, Tensor) or marks.dtype != torch.bool or marks.shape != shape:
        got = f"{marks.dtype} {list(marks.shape)}" if isinstance(marks, Tensor) else repr(marks)
        raise ValueError(f"'{name}' must be bool {list(shape)} (got {got})")
