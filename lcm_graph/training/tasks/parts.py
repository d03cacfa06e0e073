"""What the tasks have in common."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data


def known_split(split: str, splits: Any) -> str:
    if split not in splits:
        raise ValueError(f"split must be one of {', '.join(splits)} (got {split!r})")
    return split


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def checked_split(split: Mapping[str, Tensor], count: int, what: str) -> dict[str, Tensor]:
    """``split``, if it has ``"train"`` and ``"valid"``, none is empty, and nothing is in two.

    Raises:
        ValueError: it is not so, or an index is not one of ``count``.
    """
    for name in ("train", "valid", *split):
        if name not in split or not split[name].numel():
            raise ValueError(f"split must have {what} under {name!r} (got none)")
    every = torch.cat([indices.cpu() for indices in split.values()])
    if every.min() < 0 or every.max() >= count:
        raise ValueError(
            f"split must hold indices of {count} {what} (got {every.min()} to {every.max()})"
        )
    values, counts = every.unique(return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            f"split must hold each of the {what} once at most (got {values[counts.argmax()]} "
            f"{counts.max()} times)"
        )
    return dict(split)


def checked_graphs(graphs: Mapping[str, Iterable[Data]]) -> dict[str, list[Data]]:
    """``graphs``, if there are some for ``"train"`` and ``"valid"``, and none is in two splits.

    Raises:
        ValueError: it is not so.
    """
    listed = {split: list(some) for split, some in graphs.items()}
    first: dict[int, str] = {}
    for split in ("train", "valid", *listed):
        if not listed.get(split):
            raise ValueError(f"graphs must have some under {split!r} (got none)")
    for split, some in listed.items():
        for graph in some:
            other = first.setdefault(id(graph), split)
            if other != split:
                raise ValueError(
                    f"graphs must have each graph in one split (got one in {other!r} and {split!r})"
                )
    return listed


def checked_classes(y: Tensor, count: int, split: Mapping[str, Tensor]) -> None:
    """Refuse labels that are not int64 ``[count]``, or negative where a split asks for them.

    Raises:
        ValueError: they are so.
    """
    if y.dtype != torch.int64 or y.shape != (count,):
        raise ValueError(f"y must be int64 {[count]} (got {y.dtype} {list(y.shape)})")
    for name, indices in split.items():
        if (y[indices.to(y.device)] < 0).any():
            raise ValueError(
                f"y must be a class, from 0 up, for all of split[{name!r}]; leave out those that "
                f"have none (got {int(y[indices.to(y.device)].min())})"
            )


def digest(things: Iterable[Any]) -> str:
    """Eight digits that differ if the numbers do: what tells a task's data from other data.

    Args:
        things: tensors, and PyG's ``Data``, of which all tensors count.
    """
    check = 0
    for thing in things:
        parts = [thing] if isinstance(thing, Tensor) else thing.to_dict().values()
        for tensor in (part for part in parts if isinstance(part, Tensor)):
            check = zlib.crc32(tensor.detach().cpu().contiguous().numpy().tobytes(), check)
    return f"{check:08x}"
