"""The paper's aggregator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import Linear, Module

from lcm_graph.aggregators.base import check_channels, check_dtype, check_features
from lcm_graph.aggregators.tree import TreeAggregation, check_training
from lcm_graph.monoids import BinaryGRU, Monoid
from lcm_graph.reduce import FoldPlan


class LCMAggregation(TreeAggregation):
    r"""A learnable commutative monoid, folded along a balanced binary tree
    (Ong & Veličković, "Learnable Commutative Monoids for Graph Neural Networks", LoG 2022, Sec. 2).

    A drop-in replacement for :class:`torch_geometric.nn.aggr.LCMAggregation`: the same signature
    and ``state_dict`` keys (``lin``, ``gru_cell``), and the same numbers where PyG's pads nothing,
    that is on sets of one size. Unlike PyG's, a set's answer depends on that set alone; ``index``
    may be unsorted, ``ptr`` suffices, memory is linear in the number of elements.

    The one key more, ``gru_cell.empty``, is the answer to an empty set (learned, zero at first); a
    checkpoint without it loads.

    The default operator is commutative but not associative: the answer depends on the order of
    three or more elements, unless ``order="canonical"``.

    Args:
        in_channels: size of each element.
        out_channels: size of each output.
        project: apply a linear layer and a ReLU to the elements first.
        operator: the monoid, or what makes one from ``out_channels``.
        order: see :class:`FoldAggregation`.
        cached: see :class:`FoldAggregation`.
        **training: ``bracketing``, ``associativity`` and ``commutativity`` of
            :class:`TreeAggregation`.

    Raises:
        ValueError: a size is not a positive integer; sizes differ without ``project``; the operator
            has other sizes, or there is no such order.
        TypeError: ``operator`` neither is nor makes a monoid.
    """

    gathers = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        project: bool = True,
        *,
        operator: Monoid | Callable[[int], Monoid] = BinaryGRU,
        order: str = "given",
        cached: bool = False,
        **training: Any,
    ) -> None:
        check_training(type(self).__name__, training)
        super().__init__(order, cached, **training)
        self.in_channels = check_channels("in_channels", in_channels)
        self.out_channels = check_channels("out_channels", out_channels)
        self.project = project
        if not project and in_channels != out_channels:
            raise ValueError(
                "'project' must be True where 'in_channels' and 'out_channels' differ "
                f"(got {in_channels} and {out_channels})"
            )
        self.lin = Linear(in_channels, out_channels) if project else None
        # Under PyG's name, whatever the operator is, so that there is one place to look for it.
        self.gru_cell = _make_operator(operator, out_channels)

    @property
    def monoid(self) -> Monoid:
        """The operator."""
        return self.gru_cell

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if self.lin is not None:
            self.lin.reset_parameters()
        self.gru_cell.reset_parameters()

    def fold(self, x: Tensor, plan: FoldPlan, weight: Tensor | None) -> Tensor:
        check_features(x, self.in_channels, type(self).__name__)
        check_dtype(x, self)
        if self.lin is not None:
            x = self.lin(x).relu()
        return self.fold_with(self.gru_cell, x, plan, weight)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        key = f"{prefix}gru_cell.empty"
        if f"{prefix}gru_cell.weight_ih" in state_dict and key not in state_dict:
            empty = getattr(self.gru_cell, "empty", None)
            if isinstance(empty, Tensor):
                state_dict[key] = empty.detach().clone()
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def __repr__(self) -> str:
        extra = "" if isinstance(self.gru_cell, BinaryGRU) else f", operator={self.gru_cell}"
        return (
            f"{type(self).__name__}({self.in_channels}, {self.out_channels}, "
            f"project={self.project}{extra}{self._settings()})"
        )


def _make_operator(operator: Monoid | Callable[[int], Monoid], channels: int) -> Monoid:
    monoid: object = operator
    if callable(operator) and not isinstance(operator, Module):
        try:
            monoid = operator(channels)
        except TypeError as error:
            raise TypeError(
                f"'operator' could not be called with the number of channels, {channels} "
                f"({error}); one that takes something else is given by a function, such as "
                "lambda channels: Normalized(BinaryGRU(channels)), "
                f"and an operator on pairs is made a monoid by Symmetrized(op, {channels})"
            ) from error
    if not isinstance(monoid, Monoid):
        raise TypeError(
            "'operator' must be a Monoid, or a callable that makes one from the number of channels "
            f"(got {monoid!r}); Symmetrized(op, {channels}) makes one of any operator"
        )
    if monoid.channels not in (None, channels) or monoid.out_channels not in (None, channels):
        raise ValueError(
            f"'operator' must take and give 'out_channels' = {channels} features (got {monoid}); "
            "MonoidAggregation takes a monoid of any sizes"
        )
    return monoid
