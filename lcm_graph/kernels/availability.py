"""Whether Triton can run."""

from __future__ import annotations

import importlib.util
import os

import torch

from lcm_graph.kernels.backend import current_backend


def uses_triton(device: torch.device) -> bool:
    """Whether the chosen backend is Triton for tensors on ``device``.

    Raises:
        RuntimeError: Triton was asked for and is not installed, or cannot run there.
    """
    name = current_backend()
    installed = importlib.util.find_spec("triton") is not None
    if name == "auto":
        return device.type == "cuda" and installed
    if name != "triton":
        return False
    if not installed:
        raise RuntimeError(
            "backend 'triton' needs Triton, which is not installed: pip install triton"
        )
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise RuntimeError(
            f"backend 'triton' needs tensors on a CUDA device (got {device}); move them there, or "
            "use backend 'auto'. TRITON_INTERPRET=1, set before lcm_graph is imported, interprets "
            "the kernels anywhere, slowly"
        )
    return True
