"""Segment operations shared by the closed forms: sums and extrema of rows by set."""

from __future__ import annotations

import torch
from torch import Tensor


def segment_sum(x: Tensor, index: Tensor, dim_size: int) -> Tensor:
    """Sum of ``x [n, ...]`` over the sets ``index [n]``: ``[dim_size, ...]``, 0 where empty.

    Half-precision input is accumulated in float32: a running bfloat16 sum of ones stops at 256.
    """
    narrow = x.dtype in (torch.float16, torch.bfloat16)
    source = x.float() if narrow else x
    out = source.new_zeros(dim_size, *x.shape[1:]).scatter_add(0, _expand(index, x), source)
    return out.to(x.dtype) if narrow else out


def segment_max(x: Tensor, index: Tensor, dim_size: int) -> Tensor:
    """Maximum of ``x [n, ...]`` over the sets ``index [n]``: ``[dim_size, ...]``, -inf where empty.

    The gradient is shared equally among tied elements.
    """
    out = x.new_full((dim_size, *x.shape[1:]), -torch.inf)
    return out.scatter_reduce(0, _expand(index, x), x, "amax", include_self=True)


def finite_shift(maximum: Tensor) -> Tensor:
    """A constant to subtract before exponentiating: the maximum, or 0 where that is infinite."""
    maximum = maximum.detach()
    return maximum.masked_fill(maximum.isinf(), 0)


def log_weight(weight: Tensor, like: Tensor) -> Tensor:
    """Logarithm of weights ``[n]``, shaped to broadcast over ``like [n, ...]``; log 0 is -inf.

    Its gradient at 0 is 0 rather than infinite.
    """
    tiny = torch.finfo(weight.dtype).tiny
    log = torch.where(weight > 0, weight.clamp_min(tiny).log(), -torch.inf)
    return align(log, like)


def times_weight(state: Tensor, weight: Tensor) -> Tensor:
    """``state [n, ...]`` times ``weight [n]``; 0 where the weight is 0, whatever the state is."""
    weight = align(weight, state)
    return torch.where(weight == 0, 0, state) * weight


def plus_log_weight(state: Tensor, weight: Tensor) -> Tensor:
    """``state [n, ...]`` plus log ``weight [n]``; -inf where that is 0, whatever the state is."""
    log = log_weight(weight, state)
    return torch.where(log == -torch.inf, -torch.inf, state + log)


def align(weight: Tensor, like: Tensor) -> Tensor:
    """View ``weight [n]`` so that it broadcasts over ``like [n, ...]``."""
    return weight.to(like.dtype).view(-1, *[1] * (like.dim() - 1))


def _expand(index: Tensor, x: Tensor) -> Tensor:
    return index.view(-1, *[1] * (x.dim() - 1)).expand_as(x)
