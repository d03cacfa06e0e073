"""What kind of gradient is being asked for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._C._functorch import is_batchedtensor, is_legacy_batchedtensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad


def is_transformed() -> bool:
    """Whether ``torch.func`` or forward mode looks into the operations."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def known_true(marks: Tensor) -> bool:
    """Whether something is marked, where numbers may be looked at: False under a compiler,
    ``torch.func``, and of fake and meta tensors."""
    if torch.compiler.is_compiling() or is_transformed():
        return False
    has_numbers = not marks.is_meta and not isinstance(marks, FakeTensor)
    return has_numbers and bool(marks.any())


def is_differentiated_again(grads: tuple[Tensor | None, ...]) -> bool:
    """Whether, in a backward pass, its result will be differentiated, or comes in batches."""
    return torch.is_grad_enabled() or any(
        g is not None and (is_batchedtensor(g) or is_legacy_batchedtensor(g)) for g in grads
    )


def is_kept() -> bool:
    """Whether this backward pass may be run again, so that what was saved must stay as it is."""
    keeps = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
    return True if keeps is None else keeps()


def refuse_forward_mode(name: str, *tensors: Tensor) -> None:
    """RuntimeError if a tensor carries a tangent, which a custom operator would drop silently."""
    if forward_ad._current_level < 0:
        return
    if any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
        raise RuntimeError(
            f"{name} has no forward-mode derivative; fold with segment_reduce or an aggregator, "
            "which take another way in forward mode"
        )
