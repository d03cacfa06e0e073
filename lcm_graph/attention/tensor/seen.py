"""Which keys of a set some queries see: all, those up to their own place, or a window of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lcm_graph.attention.tensor.inputs import Inputs


class Seen(NamedTuple):
    """Keys and values of c queries: the same W for all, or W of each one's own."""

    keys: Tensor  # [L, 1 or c, W, D]
    values: Tensor  # [L, 1 or c, W, C]
    mask: Tensor | None  # bool [c, W]: True where a query sees the key; all do, if there is none


def seen_keys(inputs: Inputs, number: int, start: int, stop: int) -> Seen:
    """What the queries ``start`` to ``stop - 1`` see of one set of keys.

    Windows are views that overlap: no key is copied for each query.
    """
    keys, values, width = inputs.keys[number], inputs.values[number], inputs.widths[number]
    if width is None:
        return Seen(keys.unsqueeze(1), values.unsqueeze(1), None)
    first, end = inputs.place(number, start), inputs.place(number, stop)
    places = torch.arange(first, end, device=keys.device).unsqueeze(1)
    mask: Tensor | None
    if width >= keys.size(1):
        end = max(0, end)
        mask = torch.arange(end, device=keys.device) <= places
        return Seen(keys[:, :end].unsqueeze(1), values[:, :end].unsqueeze(1), mask)
    begin = first - width + 1
    windows = [_windows(tensor, begin, end, width) for tensor in (keys, values)]
    mask = None
    if begin < 0:
        mask = places - width + 1 + torch.arange(width, device=keys.device) >= 0
    return Seen(windows[0], windows[1], mask)


def _windows(tensor: Tensor, begin: int, end: int, width: int) -> Tensor:
    """Rows ``begin`` to ``end - 1``, zeros before the first, ``width`` at each place."""
    rows = tensor[:, max(0, begin) : max(0, end)]
    rows = F.pad(rows, (0, 0, end - begin - rows.size(1), 0))
    return rows.unfold(1, width, 1).mT
