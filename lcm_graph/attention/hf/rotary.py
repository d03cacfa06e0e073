"""A model's rotary embedding, to turn keys that it has turned already."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from lcm_graph.attention.windows import Rope

CHANGING = ("dynamic", "longrope")
"""Kinds whose frequencies depend on the length of what is read."""


def rope_of(model: nn.Module) -> Rope:
    """For :class:`~lcm_graph.attention.hf.FirstAndLatest`, of the model's own frequencies.

    Raises:
        ValueError: the model has no rotary embedding, one of a part of the features or of several
            kinds, one whose frequencies change with the length, or one that turns other pairs of
            features than i and i + d/2 together.
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
    rope = Rope(features, frequencies=found[0].inv_freq.detach().double().cpu())
    if not _turns_alike(found[0], rope):
        raise ValueError(
            "'model' must turn features i and i + d/2 together, as Llama does (got "
            f"{type(model).__name__}, which turns others)"
        )
    return rope


@torch.no_grad()
def _turns_alike(rotary: Any, rope: Rope) -> bool:
    """Whether the model's own function answers as ``rope`` does, of one vector."""
    turn = getattr(importlib.import_module(type(rotary).__module__), "apply_rotary_pos_emb", None)
    if turn is None:
        return False
    device = rotary.inv_freq.device
    x = torch.linspace(-1, 2, rope.features, device=device).view(1, 1, 1, -1)
    positions = torch.tensor([[3]], device=device)
    cos, sin = (part / getattr(rotary, "attention_scaling", 1.0) for part in rotary(x, positions))
    found, _ = turn(x, x, cos, sin)
    return bool((found - rope(x, positions)).abs().max() <= 1e-4)
