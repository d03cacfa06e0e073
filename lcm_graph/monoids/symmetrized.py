"""Any operator of yours, made commutative."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from lcm_graph.monoids.learned import LearnedMonoid
from lcm_graph.monoids.reset import reset_modules


class Symmetrized(LearnedMonoid):
    """``(op(a, b) + op(b, a)) / 2`` (Ong & Veličković 2022, Sec. 2.5).

    Args:
        op: takes two tensors ``[n, channels]`` and gives one. If it is a module, its parameters are
            this monoid's. If it is a plain function, it may use any tensors it likes, and a fold
            then keeps autograd's graph (more memory) instead of recomputing it.
        channels: size of an element, of a state and of an output.

    Raises:
        TypeError: ``op`` is not callable.
    """

    def __init__(self, op: Callable[[Tensor, Tensor], Tensor], channels: int) -> None:
        super().__init__(channels)
        if not callable(op):
            raise TypeError(f"'op' must be callable (got {type(op).__name__})")
        self.op = op
        self.recomputable = isinstance(op, nn.Module)

    def operator(self, a: Tensor, b: Tensor) -> Tensor:
        out = (self.op(a, b) + self.op(b, a)) / 2
        if out.shape != a.shape:
            raise ValueError(
                f"'op' must give the shape of its operands, {tuple(a.shape)} "
                f"(got {tuple(out.shape)})"
            )
        return out

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if isinstance(self.op, nn.Module):
            reset_modules(self.op)
