"""A model's rotary embedding, to turn keys that it has turned already."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lcm_graph.attention.windows import Rope

CHANGING = ("dynamic", "longrope")
"""Kinds whose frequencies depend on the length of what is read."""


def rope_of(model: nn.Module) -> Rope:
    """For :class:`~lcm_graph.attention.hf.FirstAndLatest`, of the model's own frequencies.

    Feature i must go with feature i + d/2, as in Llama and most others.

    Raises:
        ValueError: the model has no rotary embedding, one of a part of the features or of several
            kinds, or one whose frequencies change with the length.
    """
    config: Any = getattr(model, "config", None)
    found: list[Any] = [
        module
        for module in model.modules()
        if isinstance(getattr(module, "inv_freq", None), Tensor)
    ]
    if config is None or len(found) != 1:
        raise ValueError(
            "'model' must be a transformers model with one rotary embedding (got "
            f"{type(model).__name__} with {len(found)})"
        )
    kind = getattr(found[0], "rope_type", "default")
    if kind in CHANGING:
        raise ValueError(
            f"'model' must have a rotary embedding of fixed frequencies (got {kind!r})"
        )
    features = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if 2 * len(found[0].inv_freq) != features:
        raise ValueError(
            f"'model' must turn all {features} features of a head (got a rotary embedding of "
            f"{2 * len(found[0].inv_freq)})"
        )
    return Rope(features, frequencies=found[0].inv_freq.detach().double().cpu())
