"""What attention takes: shapes, groups of heads, masks."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lcm_graph.monoids.mean import count_dtype


class Inputs(NamedTuple):
    """Queries, keys and values of one shape of batch and heads, and what is added to logits."""

    q: Tensor  # [*, N, D]
    k: Tensor  # [*, M, D]; the heads are 1, or fewer than the queries', which then share them
    v: Tensor  # [*, M, C]
    bias: Tensor | None  # broadcasts over [*, N, M]; -inf hides
    scale: float
    group: int  # heads of queries that share a head of keys
    diagonal: int | None = None  # if not None, query i sees key j up to j - i = diagonal

    @property
    def dtype(self) -> torch.dtype:
        """Of logits and states: float32 at least."""
        return count_dtype(self.q.dtype)

    def seen(self) -> Tensor | None:
        """Bool ``[N, M]``: the keys that are not behind the diagonal; None if there is none."""
        if self.diagonal is None:
            return None
        ones = torch.ones(self.q.size(-2), self.k.size(-2), dtype=torch.bool, device=self.q.device)
        return ones.tril(self.diagonal)


def check_inputs(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    causal: bool,
    scale: float | None,
) -> Inputs:
    """See :func:`attend`.

    Raises:
        ValueError: shapes, dtypes or devices do not go together.
    """
    for name, tensor in (("q", q), ("k", k), ("v", v), ("mask", mask), ("bias", bias)):
        if not isinstance(tensor, Tensor) and (tensor is not None or name in ("q", "k", "v")):
            raise ValueError(f"'{name}' must be a Tensor (got {type(tensor).__name__})")
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if tensor.dim() < 2 or not tensor.is_floating_point():
            raise ValueError(
                f"'{name}' must be floating point [..., tokens, features] "
                f"(got {list(tensor.shape)} {tensor.dtype})"
            )
        if tensor.dtype != q.dtype or tensor.device != q.device:
            raise ValueError(
                f"'{name}' must be {q.dtype} on {q.device} as 'q' is "
                f"(got {tensor.dtype} on {tensor.device})"
            )
    if q.dim() != k.dim() or k.shape[:-1] != v.shape[:-1] or q.size(-1) != k.size(-1):
        raise ValueError(
            "'q' [..., heads, N, D], 'k' [..., heads, M, D] and 'v' [..., heads, M, C] must have "
            f"as many dimensions, M and D in common (got {list(q.shape)}, {list(k.shape)}, "
            f"{list(v.shape)})"
        )
    group = 1
    if q.shape[:-2] != k.shape[:-2]:
        heads, shared = (q.size(-3), k.size(-3)) if q.dim() > 2 else (1, 1)
        if q.shape[:-3] != k.shape[:-3] or shared == 0 or heads % shared:
            raise ValueError(
                "'k' and 'v' must have the batch of 'q', and its heads or a divisor of their "
                f"number (got {list(k.shape)} for {list(q.shape)})"
            )
        group = heads // shared
    added = _added((*q.shape[:-1], k.size(-2)), mask, bias, q)
    diagonal = k.size(-2) - q.size(-2) if causal else None
    return Inputs(q, k, v, added, scale_of(q, scale), group, diagonal)


def scale_of(q: Tensor, scale: float | None) -> float:
    """What logits are multiplied by.

    Raises:
        ValueError: ``scale`` is a tensor, whose gradient would be lost, or not finite.
    """
    if isinstance(scale, Tensor):
        raise ValueError(
            "'scale' must be a number: multiply 'q' by a tensor instead, which has its gradient "
            f"then (got a Tensor {list(scale.shape)})"
        )
    if scale is None:
        return max(1, q.size(-1)) ** -0.5
    if not torch.compiler.is_compiling() and not math.isfinite(scale):
        raise ValueError(f"'scale' must be finite (got {scale})")
    return float(scale)


def _added(
    logits: tuple[int, ...], mask: Tensor | None, bias: Tensor | None, q: Tensor
) -> Tensor | None:
    """What is added to logits: the bias, and -inf where a key is hidden."""
    dtype = count_dtype(q.dtype)
    for name, tensor in (("mask", mask), ("bias", bias)):
        if tensor is None:
            continue
        if not (tensor.dtype == torch.bool if name == "mask" else tensor.is_floating_point()):
            wanted = "bool, True where a key is seen" if name == "mask" else "floating point"
            raise ValueError(f"'{name}' must be {wanted} (got {tensor.dtype})")
        if tensor.device != q.device and tensor.dim():
            raise ValueError(
                f"'{name}' must be on {q.device} as 'q' is (got {tensor.device}): "
                f"{name}.to(q.device)"
            )
        try:
            fits = torch.broadcast_shapes(tensor.shape, logits) == torch.Size(logits)
        except RuntimeError:
            fits = False
        if not fits:
            raise ValueError(
                f"'{name}' must broadcast over the logits {list(logits)} (got {list(tensor.shape)})"
            )
    added = None if bias is None else bias.to(dtype)
    if mask is not None:
        blank = torch.zeros((), dtype=dtype, device=q.device) if added is None else added
        added = torch.where(mask, blank, -torch.inf)
    return added
