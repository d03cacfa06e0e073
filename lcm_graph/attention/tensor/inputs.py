"""What tensor attention takes: one set of queries, several of keys and values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from lcm_graph.attention.dense.inputs import scale_of
from lcm_graph.attention.states import AttentionState
from lcm_graph.monoids.base import check_positive
from lcm_graph.monoids.mean import count_dtype


class Inputs(NamedTuple):
    """Queries, keys and values in float32 at least, with one dimension for batch and heads."""

    q: Tensor  # [L, N, D]
    keys: tuple[Tensor, ...]  # of each set: [L, M, D]
    values: tuple[Tensor, ...]  # of each set: [L, M, C]
    scale: float
    widths: tuple[int | None, ...]  # of each set: how many keys a query sees, up to its own place

    @property
    def lead(self) -> int:
        """The size of batch and heads together."""
        return self.q.size(0)

    @property
    def queries(self) -> int:
        """N."""
        return self.q.size(1)

    @property
    def seen(self) -> list[int]:
        """Of each set: the largest number of keys that a query sees."""
        sizes = [k.size(1) for k in self.keys]
        return [
            size if width is None else min(size, width)
            for size, width in zip(sizes, self.widths, strict=True)
        ]

    def place(self, number: int, query: int) -> int:
        """Where a query stands among the keys of a set: the last one stands at the last key."""
        return self.keys[number].size(1) - self.queries + query


def check_inputs(
    q: Tensor,
    k: Sequence[Tensor],
    v: Sequence[Tensor],
    scale: float | None,
    window: Sequence[int] | None,
    causal: bool,
) -> Inputs:
    """See :func:`tensor_attention`.

    Raises:
        ValueError: shapes, dtypes or devices do not go together.
    """
    _check_sets("k", k)
    _check_sets("v", v)
    if len(k) != len(v):
        raise ValueError(
            f"'k' and 'v' must have as many sets (got {len(k)} of keys and {len(v)} of values)"
        )
    named = [("q", q)]
    for number in range(len(k)):
        named += [(f"k[{number}]", k[number]), (f"v[{number}]", v[number])]
    for name, tensor in named:
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
    if not q.size(-1):
        raise ValueError(f"'q' must have one feature or more (got {list(q.shape)})")
    for number, (keys, values) in enumerate(zip(k, v, strict=True)):
        if (
            keys.dim() != q.dim()
            or keys.size(-1) != q.size(-1)
            or keys.shape[:-1] != values.shape[:-1]
            or values.size(-1) != v[0].size(-1)
        ):
            raise ValueError(
                f"'k[{number}]' [..., heads, M, D] and 'v[{number}]' [..., heads, M, C] must have "
                "M in common, D with 'q' and C with 'v[0]', and as many dimensions "
                f"(got {list(keys.shape)} and {list(values.shape)} for 'q' {list(q.shape)} and "
                f"'v[0]' {list(v[0].shape)})"
            )
    return Inputs(
        _laid_out(q),
        tuple(_per_query_head(f"k[{number}]", q, one) for number, one in enumerate(k)),
        tuple(_per_query_head(f"v[{number}]", q, one) for number, one in enumerate(v)),
        scale_of(q, scale),
        _widths([one.size(-2) for one in k], window, causal),
    )


def with_lead_of(q: Tensor, state: AttentionState) -> AttentionState:
    """A state of ``[L, N]`` queries with the batch and heads of the queries that were given."""
    lead = q.shape[:-2]
    return AttentionState(
        state.out.reshape(*lead, *state.out.shape[1:]), state.lse.reshape(*lead, q.size(-2))
    )


def _check_sets(name: str, tensors: object) -> None:
    if not isinstance(tensors, tuple | list) or not tensors:
        got = f"a tensor {list(tensors.shape)}" if isinstance(tensors, Tensor) else repr(tensors)
        raise ValueError(f"'{name}' must be a tuple of tensors, one of each set (got {got})")


def _per_query_head(name: str, q: Tensor, tensor: Tensor) -> Tensor:
    """Keys or values once for each head of queries, with one dimension for batch and heads."""
    if q.dim() > 2:
        heads, shared = q.size(-3), tensor.size(-3)
        if q.shape[:-3] != tensor.shape[:-3] or shared == 0 or heads % shared:
            raise ValueError(
                f"'{name}' must have the batch of 'q', and its heads or a divisor of their number "
                f"(got {list(tensor.shape)} for {list(q.shape)})"
            )
        if heads != shared:
            tensor = tensor.repeat_interleave(heads // shared, -3)
    return _laid_out(tensor)


def _laid_out(tensor: Tensor) -> Tensor:
    shape = (tensor.shape[:-2].numel(), *tensor.shape[-2:])
    return tensor.to(count_dtype(tensor.dtype)).reshape(shape)


def _widths(sizes: list[int], window: Sequence[int] | None, causal: bool) -> tuple[int | None, ...]:
    if window is None:
        return tuple(size if causal else None for size in sizes)
    if isinstance(window, int) or len(window) != len(sizes):
        raise ValueError(
            f"'window' must have one width for each of the {len(sizes)} sets of keys "
            f"(got {window!r})"
        )
    return tuple(check_positive("window", width) for width in window)
