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

    def record(self, q: Tensor, k: Tensor, v: Tensor, scale: float) -> None:
        """See the context's queries, keys and values, after rotary embedding."""

    def read(self, q: Tensor, positions: Tensor) -> AttentionState | None:
        """What queries gather of the context; ``None`` while it is being recorded."""


def register_attention() -> str:
    """Make ``attn_implementation="lcm_graph"`` known to transformers; returns the name.

    Without a :class:`~lcm_graph.attention.hf.Context`, models answer as with ``"sdpa"``. As there,
    logits that are capped raise ValueError, and so do sinks that attention has beside its keys;
    with a context so do sliding windows, which would hide a part of it.
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
        if others.get("sliding_window") is not None:
            raise ValueError(
                "'model' must see all of its context to have one attached (got a layer of "
                f"{type(module).__name__} that sees the {others['sliding_window']} latest tokens): "
                "take a model without sliding windows"
            )
        reader.record(query, key, value, scale)
        n = query.size(2)
        positions = torch.arange(n, device=query.device) if position_ids is None else position_ids
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
