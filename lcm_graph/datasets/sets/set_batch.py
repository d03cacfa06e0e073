"""A ragged batch of sets, and integers as bits."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class SetBatch(NamedTuple):
    """A ragged batch of sets. Shapes: n elements in S sets.

    Attributes:
        x: float32 ``[n, channels]``, the elements: bits, least significant first, or pixels.
        ptr: int64 ``[S + 1]``; set ``s`` holds rows ``ptr[s]:ptr[s + 1]`` of ``x``.
        y: each set's answer, see :func:`lcm_graph.datasets.encode`: float32 ``[S, bits]``, int64
            ``[S]`` (a class) or float32 ``[S, 1]`` (a real number).
    """

    x: Tensor
    ptr: Tensor
    y: Tensor

    def to(self, device: torch.device | str) -> SetBatch:
        """The same batch on ``device``."""
        return SetBatch(self.x.to(device), self.ptr.to(device), self.y.to(device))


def to_bits(values: Tensor, bits: int) -> Tensor:
    """Integers ``[n]`` below 2^bits, of at most 31 bits, -> float32 ``[n, bits]``, lowest first."""
    shifts = torch.arange(bits, dtype=torch.int32, device=values.device)
    return (values.to(torch.int32)[:, None] >> shifts).bitwise_and_(1).to(torch.float32)
