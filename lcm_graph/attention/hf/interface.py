"""Our attention under a name that Hugging Face's models take."""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from lcm_graph.attention.dense import attend
from lcm_graph.attention.states import AttentionState, merge

NAME = "lcm_graph"
READER = "lcm_graph_reader"
"""The attribute of an attention module that holds what stands for tokens before the cache's."""


class Reader(Protocol):
    """What stands for a context, or takes notes of one."""

    length: int
    """Tokens that stand before the cache's."""

    def record(self, q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None) -> None:
        """See the context's queries, keys and values, after rotary embedding."""

    def read(self, q: Tensor, positions: Tensor) -> AttentionState | None:
        """What queries gather of the context; ``None`` while it is being recorded."""


def register_attention() -> str:
    """Make ``attn_implementation="lcm_graph"`` known to transformers; returns the name.

    Without a :class:`~lcm_graph.attention.hf.Context`, models answer as with ``"sdpa"``. As there,
    logits that are capped raise ValueError, and so do sinks that attention has beside its keys;
    with a context so do sliding windows that would hide a part of it.
    """
    AttentionInterface.register(NAME, _attention)
    # Without a mask function of the same name, models would get no mask at all.
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_ids: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """``[B, H, N, D]`` and keys of fewer heads -> ``[B, N, H, D]``, as transformers calls it."""
    for name in ("softcap", "s_aux", "position_bias", "head_mask"):
        if others.get(name) is not None:
            raise ValueError(
                f"{NAME!r} has no attention with {name!r}, which {type(module).__name__} asks for: "
                "take attn_implementation='eager'"
            )
    scale = query.size(-1) ** -0.5 if scaling is None else scaling
    reader: Reader | None = getattr(module, READER, None)
    before = None
    if reader is not None:
        reader.record(query, key, value, scale, attention_mask)
        positions = position_ids
        if positions is None:  # as of models that turn keys elsewhere, or not at all
            end = reader.length + key.size(2)
            positions = torch.arange(end - query.size(2), end, device=query.device)
        window = _window(module, others.get("sliding_window"))
        if window is not None and int(positions.max()) >= window:
            raise ValueError(
                "'model' must see all of its context to have one attached (got a layer of "
                f"{type(module).__name__} that sees at most {window} tokens): take a model without "
                "sliding windows, or a shorter context"
            )
        before = reader.read(query, positions)
    if before is None:
        causal = attention_mask is None and query.size(2) > 1
        group = query.size(1) // key.size(1)
        out = F.scaled_dot_product_attention(
            query,
            key.repeat_interleave(group, 1),
            value.repeat_interleave(group, 1),
            attn_mask=attention_mask,
            dropout_p=dropout if module.training else 0.0,
            is_causal=causal and query.size(2) == key.size(2),
            scale=scale,
        )
        return out.transpose(1, 2).contiguous(), None
    masks: dict[str, Any] = {"causal": True}
    if attention_mask is not None:
        masks = {"mask" if attention_mask.dtype == torch.bool else "bias": attention_mask}
    state = merge(attend(query, key, value, scale=scale, **masks), before)
    return state.out.to(query.dtype).transpose(1, 2).contiguous(), None


def _window(module: Any, given: int | None) -> int | None:
    """How many tokens a layer sees at most; ``None`` for all."""
    if given is not None:
        return given
    config = getattr(module, "config", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and kinds[module.layer_idx] == "full_attention":
        return None
    widths = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return min((width for width in widths if isinstance(width, int)), default=None)
