"""Memory for what a fold writes once and reads once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


def empty_rows(like: Tensor, rows: int, columns: int) -> Tensor:
    """An uninitialised ``[rows, columns]`` of ``like``'s dtype and device.

    On CPU in NumPy's memory: it asks the system for huge pages where they are to be had, torch does
    not, and a large buffer that is new in each call spends much of its time on being paged in.
    """
    dtype = _NUMPY.get(like.dtype)
    if like.device.type != "cpu" or dtype is None:
        return like.new_empty(rows, columns)
    return torch.from_numpy(np.empty((rows, columns), dtype))
