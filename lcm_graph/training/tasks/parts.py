"""What the tasks have in common."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def known_split(split: str, splits: Any) -> str:
    if split not in splits:
        raise ValueError(f"split must be one of {', '.join(splits)} (got {split!r})")
    return split


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
