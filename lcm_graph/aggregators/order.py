"""In which order the elements of a set are folded."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_graph.reduce import FoldPlan

ORDERS = ("given", "random", "canonical")

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def check_order(order: str) -> str:
    """Returns ``order``; ValueError if there is no such order."""
    if order not in ORDERS:
        raise ValueError(f"'order' must be one of {', '.join(ORDERS)} (got {order!r})")
    return order


@torch.compiler.disable
def canonical_order(plan: FoldPlan, x: Tensor, weight: Tensor | None = None) -> Tensor:
    """The rows of ``x [n, F]`` set by set, each set sorted by value: int64 ``[n]``.

    Equal sets give equal sequences of rows, in whatever order their elements came.
    """
    rows = plan.ordered_by(canonical_ranks(x, weight)).permutation
    assert rows is not None
    return rows


def canonical_ranks(x: Tensor, weight: Tensor | None = None) -> Tensor:
    """The rank of each row of ``x [n, F]`` among all rows: int64 ``[n]``, equal for equal rows.

    Rows are compared number by number from the left, by IEEE 754's total order, in which -0 < 0 and
    NaNs come last (or first, if negative), so every row has its place. ``weight [n]``, where given,
    is compared last.
    """
    if weight is not None:
        x = torch.cat([x, weight.to(x.dtype).unsqueeze(-1)], dim=-1)
    if x.numel() == 0:
        return torch.zeros(x.size(0), dtype=torch.int64, device=x.device)
    bits = x.detach().contiguous().view(_BITS[x.element_size()])
    # Negative floats grow in magnitude with their bits: turn these round to compare as integers.
    ascending = torch.where(bits < 0, bits ^ torch.iinfo(bits.dtype).max, bits)
    return torch.unique(ascending, dim=0, return_inverse=True)[1]
