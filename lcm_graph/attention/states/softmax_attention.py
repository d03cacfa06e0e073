"""The state of softmax attention: what one query has gathered so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor

from lcm_graph.monoids import Monoid
from lcm_graph.monoids.base import check_positive
from lcm_graph.monoids.mean import count_dtype
from lcm_graph.monoids.segment import finite_shift, plus_log_weight, segment_max, segment_sum


class AttentionState(NamedTuple):
    """What queries have gathered of some of the keys: two such of other keys merge into one.

    Any leading shape: one entry for each query and head. Attention kernels hand out such pairs, not
    all alike: FlashInfer's logarithm is to base 2 by default (multiply it by log 2), and where
    ``out`` is ``[batch, tokens, heads, channels]`` it goes with ``lse`` of its own first three
    dimensions here.
    """

    out: Tensor  # [*, channels]: Σ softmax(logits) · values
    lse: Tensor  # [*], float32 or wider: log Σ exp(logits), natural logarithm; -inf without keys

    def __add__(self, other: object) -> NoReturn:
        """TypeError: a pair's own would put two pairs beside each other."""
        raise TypeError("states are not added but merged: merge(state, other)")


class SoftmaxAttention(Monoid):
    r"""Softmax-weighted means of values: :math:`\sum_j e^{s_j} v_j / \sum_j e^{s_j}`.

    States are :class:`AttentionState`; two merge by

    .. math:: L = \log(e^{L_a} + e^{L_b}), \quad o = o_a e^{L_a - L} + o_b e^{L_b - L},

    without overflow for logits of any size. Unlike :class:`~lcm_graph.monoids.Softmax`, whose
    weights differ from channel to channel, all channels of a value share one weight.

    Args:
        channels: features of a value.
        shape: of the queries, e.g. ``(seeds, heads)``: each element has a logit for every one. With
            the default ``()`` an element has one logit.

    An element is ``prod(shape)`` logits and one value, ``[n, prod(shape) + channels]``, or see
    :meth:`lift`. ``lower`` gives ``[n, prod(shape) * channels]``, 0 without elements.

    Source: Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018), section 3;
    Dao et al., "FlashAttention" (2022), section 3.1.
    """

    def __init__(self, channels: int, shape: Sequence[int] = ()) -> None:
        self.value_channels = check_positive("channels", channels)
        self.shape = tuple(check_positive("shape", size) for size in shape)
        self.queries = torch.Size(self.shape).numel()
        super().__init__(self.queries + channels)

    @property
    def out_channels(self) -> int:
        return self.queries * self.value_channels

    def lift(self, x: Tensor, logits: Tensor | None = None) -> AttentionState:
        """Turn elements into states.

        Args:
            x: floating point ``[n, prod(shape) + channels]``; or, if ``logits`` are given, values
                ``[n, channels]``, or ``[n, *shape, channels]`` where queries see different ones.
            logits: ``[n, *shape]``, of any size.

        Raises:
            ValueError: a shape is another one, or ``x`` is not floating point.
        """
        if logits is None:
            self._check_elements(x)
            logits, x = x.tensor_split([self.queries], dim=1)
            logits = logits.unflatten(1, self.shape) if self.shape else logits.squeeze(1)
        self._check_floating(x)
        n = x.size(0) if x.dim() else 0
        alike, each = (n, self.value_channels), (n, *self.shape, self.value_channels)
        if tuple(x.shape) not in (alike, each) or tuple(logits.shape) != (n, *self.shape):
            raise ValueError(
                f"{self} takes values {list(each)} or {list(alike)} and logits "
                f"{[n, *self.shape]} (got {list(x.shape)} and {list(logits.shape)})"
            )
        if tuple(x.shape) != each:
            x = x.view(n, *[1] * len(self.shape), self.value_channels).expand(each)
        return AttentionState(x, logits.to(count_dtype(logits.dtype)))

    def combine(self, left: AttentionState, right: AttentionState) -> AttentionState:
        return merge(left, right)

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> AttentionState:
        out = torch.zeros(n, *self.shape, self.value_channels, dtype=dtype, device=device)
        lse = out.new_full((n, *self.shape), -torch.inf, dtype=count_dtype(out.dtype))
        return AttentionState(out, lse)

    def lower(self, state: AttentionState) -> Tensor:
        return state.out.reshape(state.out.size(0), self.out_channels)

    def segment(self, state: AttentionState, index: Tensor, dim_size: int) -> AttentionState:
        shift = finite_shift(segment_max(state.lse, index, dim_size))
        share = (state.lse - shift.index_select(0, index)).exp()
        total = segment_sum(share, index, dim_size)
        weighted = segment_sum(share.unsqueeze(-1) * state.out, index, dim_size)
        return _normalized(weighted, total, shift, state.out.dtype)

    def weigh(self, state: AttentionState, weight: Tensor) -> AttentionState:
        return AttentionState(
            torch.where(weight.view(-1, *[1] * (state.out.dim() - 1)) == 0, 0, state.out),
            plus_log_weight(state.lse, weight),
        )

    def __repr__(self) -> str:
        shape = f", shape={self.shape}" if self.shape else ""
        return f"SoftmaxAttention({self.value_channels}{shape})"


def merge(first: AttentionState, *others: AttentionState) -> AttentionState:
    """One state of what the same queries have gathered of disjoint sets of keys.

    Differentiable in values and in ``lse``. States without any key (``lse`` of -inf) change
    nothing. Of a list of states: ``merge(*states)``.

    Args:
        first: of any leading shape; the result's ``out`` has its dtype, ``lse`` the widest of all.
        others: of the same shape, up to broadcasting of ``lse``'s.

    Raises:
        TypeError: an argument is no state, such as a list of them.
        ValueError: their shapes do not go together.
    """
    for state in (first, *others):
        if not isinstance(state, AttentionState):
            raise TypeError(
                "'merge' takes states one by one, of a list of them merge(*states), and a pair as "
                f"AttentionState(out, lse) (got {type(state).__name__})"
            )
        _check_shapes(first, state)
    if not others:
        return first
    shift = first.lse
    for state in others:
        shift = torch.maximum(shift, state.lse)
    shift = finite_shift(shift)
    total: Tensor | float = 0.0
    weighted: Tensor | float = 0.0
    for state in (first, *others):
        share = (state.lse - shift).exp()
        total = total + share
        weighted = weighted + share.unsqueeze(-1) * state.out
    assert isinstance(total, Tensor) and isinstance(weighted, Tensor)
    return _normalized(weighted, total, shift, first.out.dtype)


def _check_shapes(first: AttentionState, other: AttentionState) -> None:
    if not other.out.dim() or other.out.shape[:-1] != other.lse.shape:
        raise ValueError(
            "a state must have 'lse' of the shape of 'out' but for its last dimension (got "
            f"{list(other.lse.shape)} and {list(other.out.shape)}): transpose either"
        )
    try:
        torch.broadcast_shapes(first.lse.shape, other.lse.shape)
        fits = first.out.size(-1) == other.out.size(-1)
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            "states must be of the same queries and of values of one width (got out "
            f"{list(first.out.shape)} and {list(other.out.shape)})"
        )


def reweigh(state: AttentionState, log_weight: Tensor | float) -> AttentionState:
    """Let all keys of a state count ``exp(log_weight)`` times.

    Importance weights, gates, sizes of clusters: an action on states, which commutes with
    :func:`merge`.

    Args:
        state: of any leading shape.
        log_weight: broadcasts over ``state.lse``; -inf leaves the keys out, if ``out`` is finite.
    """
    return AttentionState(state.out, state.lse + log_weight)


def _normalized(
    weighted: Tensor, total: Tensor, shift: Tensor, dtype: torch.dtype
) -> AttentionState:
    """The state of sums that were scaled by ``exp(-shift)``."""
    none = total == 0
    safe = torch.where(none, 1, total)
    lse = (shift + safe.log()).masked_fill(none, -torch.inf)
    return AttentionState((weighted / safe.unsqueeze(-1)).to(dtype), lse)
