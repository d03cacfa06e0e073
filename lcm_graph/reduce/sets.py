"""Checking what says which element belongs to which set."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def check_index(index: Tensor, num_elements: int | None, dim_size: int | None) -> tuple[int, bool]:
    """Validate an ``index``; returns the number of sets and whether it is sorted.

    Costs one device synchronisation.

    Raises:
        ValueError: wrong dtype, shape or length, a negative entry, or one beyond ``dim_size``.
    """
    check_vector("index", index)
    if num_elements is not None and index.numel() != num_elements:
        raise ValueError(
            f"'index' must have one entry for each of the {num_elements} elements "
            f"(got {index.numel()})"
        )
    check_dim_size(dim_size)
    if index.numel() == 0:
        return dim_size or 0, True
    in_order = (index[1:] >= index[:-1]).all().to(index.dtype)
    low, high, is_sorted = torch.stack([index.min(), index.max(), in_order]).tolist()
    if low < 0:
        raise ValueError(f"'index' must not be negative (got {low}); it numbers the sets from 0")
    if dim_size is not None and high >= dim_size:
        raise ValueError(
            f"'index' must be below 'dim_size' (got index {high} and dim_size {dim_size}); "
            f"pass dim_size={high + 1} or more"
        )
    return (high + 1 if dim_size is None else dim_size), bool(is_sorted)


def check_ptr(ptr: Tensor, num_elements: int | None, dim_size: int | None) -> int:
    """Validate a ``ptr``; returns the number of elements. Costs one device synchronisation.

    Raises:
        ValueError: wrong dtype or shape, a decreasing step, an end that is not the number of
            elements, or a ``dim_size`` that disagrees.
    """
    check_vector("ptr", ptr)
    if ptr.numel() == 0:
        raise ValueError("'ptr' must have one more entry than there are sets (got 0 entries)")
    sets = ptr.numel() - 1
    check_dim_size(dim_size)
    if dim_size is not None and dim_size != sets:
        raise ValueError(f"'dim_size' must be the number of sets in 'ptr', {sets} (got {dim_size})")
    decreasing = (ptr[1:] < ptr[:-1]).any().to(ptr.dtype)
    first, last, falls = torch.stack([ptr[0], ptr[-1], decreasing]).tolist()
    if falls:
        at = int((ptr[1:] < ptr[:-1]).nonzero()[0])
        raise ValueError(
            f"'ptr' must not decrease (got {int(ptr[at])} and then {int(ptr[at + 1])} "
            f"at position {at})"
        )
    if first != 0:
        raise ValueError(f"'ptr' must begin with 0 (got {first})")
    if num_elements is not None and last != num_elements:
        raise ValueError(f"'ptr' must end with the number of elements, {num_elements} (got {last})")
    return int(last)


def check_source(source: Tensor, num_elements: int, num_states: int) -> None:
    """Validate which row each element is. Costs one device synchronisation.

    Raises:
        ValueError: wrong dtype, shape or length, or an entry outside of ``[0, num_states)``.
    """
    check_vector("source", source)
    if source.numel() != num_elements:
        raise ValueError(
            f"'source' must have one entry for each of the {num_elements} elements "
            f"(got {source.numel()})"
        )
    if source.numel() == 0:
        return
    low, high = torch.stack([source.min(), source.max()]).tolist()
    if low < 0 or high >= num_states:
        wrong = low if low < 0 else high
        raise ValueError(
            f"'source' must name one of the {num_states} rows, 0 to {num_states - 1} "
            f"(got {wrong}); it numbers the rows that elements are read from"
        )


def check_dim_size(dim_size: object) -> None:
    """ValueError if ``dim_size`` is given and is no number of sets."""
    wanted = (int, np.integer, torch.SymInt)
    if dim_size is None or (isinstance(dim_size, wanted) and dim_size >= 0):
        return
    raise ValueError(f"'dim_size' must be an integer from 0 up (got {dim_size!r})")


def check_tensor(name: str, value: object) -> None:
    """TypeError if ``value`` is no tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"'{name}' must be a tensor (got {type(value).__name__}); torch.as_tensor makes one of "
            "an array or a list"
        )


def check_vector(name: str, vector: Tensor) -> None:
    """ValueError if ``vector`` is not a one-dimensional tensor of integers."""
    if not isinstance(vector, Tensor):
        raise ValueError(f"'{name}' must be a tensor (got {type(vector).__name__})")
    if vector.dim() != 1:
        raise ValueError(f"'{name}' must be one-dimensional (got shape {tuple(vector.shape)})")
    if vector.dtype == torch.bool:
        raise ValueError(
            f"'{name}' must hold integers (got torch.bool); {name}.nonzero().flatten() gives the "
            "places that a mask marks"
        )
    if vector.dtype not in _INTEGERS:
        raise ValueError(
            f"'{name}' must hold integers (got {vector.dtype}); convert it with {name}.long()"
        )
