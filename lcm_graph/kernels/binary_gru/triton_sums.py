"""What the backward pass adds up, in an order of its own so that results repeat bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from lcm_graph.kernels.binary_gru import triton_kernels as kernels
from lcm_graph.kernels.binary_gru.triton_launch import Config, Launch
from lcm_graph.kernels.binary_gru.triton_schedule import Step
from lcm_graph.kernels.binary_gru.weights import Weights
from lcm_graph.kernels.tree import Tree

SCRATCH_BYTES = 2**26  # about what a GPU's second-level cache holds


class LeafGradients:
    """Where level 0 writes its operands' gradients: rows ``to_left``, ``to_right`` of ``target``.

    If no row of x occurs twice, that is x's gradient; else one row an occurrence, added up at last.
    """

    def __init__(self, x: Tensor, tree: Tree, distinct: bool) -> None:
        self.bottom = tree.level_ptr[1] if len(tree.level_ptr) > 1 else 0
        self.distinct = distinct
        self.num_rows = x.size(0)
        occurrences = 2 * self.bottom + tree.singles.numel()
        if distinct:
            whole = occurrences == x.size(0)
            make = x.new_empty if whole else x.new_zeros
            self.target = make(x.shape)
            self.to_left, self.to_right, self.to_singles = tree.left, tree.right, tree.singles
        else:
            self.target = x.new_empty(occurrences, x.size(1))
            places = torch.arange(occurrences, device=x.device)
            self.to_left, self.to_right, self.to_singles = places.tensor_split(
                (self.bottom, 2 * self.bottom)
            )
            self.source = torch.cat(
                [tree.left[: self.bottom], tree.right[: self.bottom], tree.singles]
            )

    def finish(self, nodes: Tensor, how: Config) -> Tensor:
        """The gradient of x, given that of ``nodes``."""
        self.target.index_copy_(0, self.to_singles, nodes[: self.to_singles.numel()])
        if self.distinct:
            return self.target
        grad = nodes.new_empty(self.num_rows, nodes.size(1))
        self.sum_up(grad, how)()
        return grad

    def sum_up(self, out: Tensor, how: Config) -> Launch:
        """Add up the occurrences of each row."""
        rows, order = self.source.sort(stable=True)
        ptr = torch.searchsorted(rows, torch.arange(self.num_rows + 1, device=rows.device))
        programs = self.num_rows * triton.cdiv(how.constants["D"], how.constants["BC"])
        return how.launch(
            kernels.sum_occurrences, (programs,), values=self.target, order=order, ptr=ptr, out=out
        )


class WeightGradients:
    """The weights' gradients: sums over some pairs each, added up at last.

    Attributes:
        capacity: pairs that the scratch space holds.
        scratch: ``[capacity, 12 d]``, as :func:`triton_tiles.gate_gradients` writes it.
    """

    def __init__(self, nodes: Tensor, steps: Sequence[Step], how: Config) -> None:
        channels = nodes.size(1)
        pairs = max((step.end for step in steps), default=0)
        joined = [step.end - step.start for step in steps if step.bounds is not None]
        room = SCRATCH_BYTES // (12 * channels * nodes.element_size())
        self.capacity = min(pairs, max(room, 1, *joined))
        self.scratch = nodes.new_empty(self.capacity, 12 * channels)
        splits = triton.cdiv(self.capacity, how.constants["ROWS"])
        wide = torch.promote_types(nodes.dtype, torch.float32)
        self.matrices = nodes.new_zeros(splits, 3, 2 * channels, channels, dtype=wide)
        self.biases = nodes.new_zeros(splits, 2, 2 * channels, dtype=wide)

    def add(self, pairs: int, how: Config) -> Launch:
        """Add those of the first ``pairs`` rows of the scratch space."""
        rows, columns = self.matrices.shape[2:]
        sizes = how.constants
        tiles = triton.cdiv(rows, sizes["BO"]) * triton.cdiv(columns, sizes["BI"])
        return how.launch(
            kernels.bwd_weights,
            (tiles, triton.cdiv(pairs, sizes["ROWS"])),
            scratch=self.scratch,
            count=pairs,
            partial=self.matrices,
            partial_bias=self.biases,
        )

    def finish(self, weights: Weights) -> Weights:
        """The gradients, in the dtypes of the weights."""
        sums = (*self.matrices.sum(0), *self.biases.sum(0))
        return Weights(*(s.to(w.dtype) for s, w in zip(sums, weights, strict=True)))
