"""Memory for one part at a time, in the backward pass too."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lcm_graph.kernels.gradient_mode import is_transformed

NUMBERS = 1 << 20
"""How many logits, weights or features are held at a time, unless one query has more."""

T = TypeVar("T")


def part_size(numbers: int) -> int:
    """How many queries, tokens or channels with so many numbers each make a part."""
    return max(1, NUMBERS // max(1, numbers))


def compute_again(function: Callable[..., T], *tensors: Tensor) -> T:
    """``function(*tensors)``, which the backward pass calls again instead of keeping its insides.

    Under ``torch.func`` and in forward mode it is called once.
    """
    needed = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    if not needed or is_transformed():
        return function(*tensors)
    result: T = checkpoint(function, *tensors, use_reentrant=False, preserve_rng_state=False)
    return result
