"""``attend``: what queries gather of keys, as a state."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_graph.attention.dense.chunked import CHUNK, chunked_attention
from lcm_graph.attention.dense.inputs import Inputs, check_inputs
from lcm_graph.attention.dense.kernel import kernel_attention, lost_nan, refusal
from lcm_graph.attention.dense.plain import plain_attention
from lcm_graph.attention.states import AttentionState
from lcm_graph.kernels.gradient_mode import is_transformed

BACKENDS = ("plain", "chunked", "kernel")


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    backend: str | None = None,
) -> AttentionState:
    """Softmax attention of queries to keys, with the logarithm of what the weights add up to.

    ``attend(q, k, v).out`` is :func:`torch.nn.functional.scaled_dot_product_attention`; with
    ``lse``, which has its gradient too, what was gathered of some keys merges with what was
    gathered of others: ``merge(attend(q, k1, v1), attend(q, k2, v2))`` attends to both.

    Args:
        q: floating point ``[..., heads, N, D]``, or ``[N, D]``.
        k: ``[..., heads, M, D]``; fewer heads, a divisor of the queries', are shared by groups of
            neighbouring heads of queries.
        v: ``[..., heads, M, C]``, with the heads of ``k``.
        mask: bool, broadcasts over ``[..., heads, N, M]``: True where a query sees a key.
        bias: floating point, broadcasts likewise: added to the scaled logits.
        causal: let the last query see all keys, the one before it all but the last, and so on. (At
            ``N = M`` that is what ``is_causal`` of torch means.)
        scale: of the logits (default: ``D ** -0.5``).
        backend: how to compute it. ``"plain"``: all logits at once, also under ``torch.func``.
            ``"chunked"``: some keys at a time, in the backward pass too.
            ``"kernel"``: torch's kernel for CPU, without gradients. Default: the kernel where it
            can, else ``"plain"`` up to a few hundred keys, else ``"chunked"``.

    Any derivative in reverse mode, and in forward mode by ``"plain"``; under ``torch.compile`` the
    first in reverse mode.

    Returns:
        ``out [..., heads, N, C]`` and ``lse [..., heads, N]``, float32 for narrower inputs; 0 and
        -inf for a query that sees no key.

    Raises:
        ValueError: shapes, dtypes or devices do not go together, there is no such backend, or it
            cannot compute this.
    """
    inputs = check_inputs(q, k, v, mask, bias, causal, scale)
    with torch.autocast(inputs.q.device.type, enabled=False):  # it would narrow logits again
        return _attend(inputs, backend)


def _attend(inputs: Inputs, backend: str | None) -> AttentionState:
    if backend is None:
        backend = "kernel" if refusal(inputs) is None else _ours(inputs)
    if backend == "plain":
        return plain_attention(inputs)
    if backend == "chunked":
        return chunked_attention(inputs)
    if backend != "kernel":
        raise ValueError(f"'backend' must be one of {', '.join(BACKENDS)} (got {backend!r})")
    why = refusal(inputs)
    if why is not None:
        raise ValueError(f"'backend' must be 'plain' or 'chunked' here, not 'kernel': {why}")
    state = kernel_attention(inputs)
    return _attend(inputs, _ours(inputs)) if lost_nan(state, inputs) else state


def _ours(inputs: Inputs) -> str:
    """The backend for what the kernel cannot do."""
    few = inputs.k.size(-2) <= CHUNK
    return "plain" if few or is_transformed() else "chunked"
