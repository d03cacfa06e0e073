"""Telling apart modules of the same kind by their parameters."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn


def parameter_digest(module: nn.Module) -> str:
    """A digest of the names, dtypes, shapes and values of a module's parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        if not isinstance(tensor, Tensor):
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
