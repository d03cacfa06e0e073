"""What attention takes: shapes, groups of heads, masks."""

from __future__ import annotations

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

    @property
    def dtype(self) -> torch.dtype:
        """Of logits and states: float32 at least."""
        return count_dtype(self.q.dtype)


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
    logits = (*q.shape[:-1], k.size(-2))
    added = _added(logits, mask, bias, causal, q)
    return Inputs(q, k, v, added, q.size(-1) ** -0.5 if scale is None else float(scale), group)


def causal_mask(queries: int, keys: int, device: torch.device) -> Tensor:
    """Bool ``[queries, keys]``: the last query sees all keys, the one before it one less, …"""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def _added(
    logits: tuple[int, ...], mask: Tensor | None, bias: Tensor | None, causal: bool, q: Tensor
) -> Tensor | None:
    """What is added to logits: the bias, and -inf where a key is hidden."""
    dtype = count_dtype(q.dtype)
    for name, tensor in (("mask", mask), ("bias", bias)):
        if tensor is None:
            continue
        if (tensor.dtype == torch.bool) != (name == "mask"):
            wanted = "bool, True where a key is seen" if name == "mask" else "floating point"
            raise ValueError(f"'{name}' must be {wanted} (got {tensor.dtype})")
        try:
            fits = torch.broadcast_shapes(tensor.shape, logits) == torch.Size(logits)
        except RuntimeError:
            fits = False
        if not fits:
            raise ValueError(
                f"'{name}' must broadcast over the logits {list(logits)} (got {list(tensor.shape)})"
            )
    if causal:
        seen = causal_mask(logits[-2], logits[-1], q.device)
        mask = seen if mask is None else mask & seen
    added = None if bias is None else bias.to(dtype)
    if mask is not None:
        blank = torch.zeros((), dtype=dtype, device=q.device) if added is None else added
        added = torch.where(mask, blank, -torch.inf)
    return added
