"""When a tree is folded with a Binary-GRU by its own operator, and by which implementation."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_graph.kernels.availability import uses_triton
from lcm_graph.kernels.backend import current_backend
from lcm_graph.kernels.binary_gru.op import binary_gru_fold
from lcm_graph.kernels.registry import Sets, register_tree
from lcm_graph.monoids import BinaryGRU
from lcm_graph.monoids.learned import Adjoined

KEEP_BELOW = 1 << 23
"""Numbers in the elements up to which the gates are kept for the backward pass, 8 for each."""


@register_tree(BinaryGRU, "cpu", "cuda")
def fold_binary_gru(
    monoid: BinaryGRU, states: Adjoined, sets: Sets, recompute: bool | None = None
) -> Adjoined | None:
    """Fold occupied sets; ``None`` where weights of elements or dtypes ask for another way."""
    x = states.value
    cell = (monoid.weight_ih, monoid.weight_hh, monoid.bias_ih, monoid.bias_hh)
    if states.present is not None or x.size(1) != monoid.channels:
        return None
    if torch.is_autocast_enabled(x.device.type):
        if x.dtype != torch.get_autocast_dtype(x.device.type):
            return None
        cell = tuple(p.to(x.dtype) for p in cell)  # type: ignore[assignment]
    if any(p.dtype != x.dtype or p.device != x.device for p in cell):
        return None
    how = _backend(x)
    if how != "triton" and x.dtype.itemsize == 2:
        return None  # of gates rounded to 16 bits at each step, the general way's are closer
    tree = sets.tree
    if recompute is None:
        recompute = x.size(1) * sets.num_elements > KEEP_BELOW
    needs_grad = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *cell))
    roots, _, _ = binary_gru_fold(
        x,
        tree.left,
        tree.right,
        tree.singles,
        tree.roots,
        tree.sizes,
        sets.level_ptr,
        *cell,
        sets.source is None,
        needs_grad and not recompute,
        how,
    )
    return Adjoined(roots)


def _backend(x: Tensor) -> str:
    if x.dtype != torch.float64 and uses_triton(x.device):
        return "triton"
    return "compile" if current_backend() == "compile" else "torch"
