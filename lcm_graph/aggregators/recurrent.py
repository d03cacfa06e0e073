"""Recurrent networks over sets: ragged, without padding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lcm_graph.aggregators.base import FoldAggregation, check_channels, check_dtype, check_features
from lcm_graph.aggregators.tree import check_loss_weight
from lcm_graph.monoids import State
from lcm_graph.reduce import FoldPlan
from lcm_graph.regularizers import swap_loss

_CELLS: dict[str, Callable[..., nn.RNNBase]] = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}


class RecurrentAggregation(FoldAggregation):
    """The last state of a recurrent network that reads the elements of a set one after another
    (Hamilton et al., "Inductive Representation Learning on Large Graphs", 2017, Sec. 3.3).

    Sets are read in the layout of torch's packed sequences: a set stops where it ends, where PyG's
    GRU and LSTM aggregations read on into the padding up to the largest set of the batch. Depth is
    the size of the largest set. An empty set answers with the initial state, 0.

    The network is the attribute ``gru``, ``lstm`` or ``rnn``, so a checkpoint of PyG's
    ``GRUAggregation`` or ``LSTMAggregation`` loads. Not invariant to the order of the elements:
    ``order="random"`` shuffles while training, as the paper does (Ong & Veličković 2022, Sec. 2.5).

    Args:
        in_channels: size of each element.
        out_channels: size of each output.
        cell: ``"gru"``, ``"lstm"`` or ``"rnn"``.
        order: see :class:`FoldAggregation`.
        cached: see :class:`FoldAggregation`.
        swap: weight of :func:`~lcm_graph.regularizers.swap_loss`, which :meth:`regularization`
            hands out while training.
        **kwargs: more for :class:`torch.nn.GRU` and its kin, such as ``num_layers``.

    Raises:
        ValueError: an unknown cell or order, a size that is not a positive integer, or a keyword
            that would change the shape of the answer (``bidirectional``, ``proj_size``,
            ``batch_first``); or ``swap`` with ``dropout``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        cell: str = "gru",
        *,
        order: str = "given",
        cached: bool = False,
        swap: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(order, cached)
        self.swap = check_loss_weight("swap", swap)
        if swap and kwargs.get("dropout"):
            raise ValueError(
                "'swap' must be 0 with 'dropout': both orders would be read with other elements "
                f"dropped (got swap={swap} and dropout={kwargs['dropout']})"
            )
        self._kwargs = kwargs
        if cell not in _CELLS:
            raise ValueError(f"'cell' must be one of {', '.join(_CELLS)} (got {cell!r})")
        for name in ("bidirectional", "proj_size", "batch_first"):
            if name in kwargs:
                raise ValueError(f"{type(self).__name__} does not take {name!r}")
        self.in_channels = check_channels("in_channels", in_channels)
        self.out_channels = check_channels("out_channels", out_channels)
        self.cell = cell
        try:
            network = _CELLS[cell](in_channels, out_channels, **kwargs)
        except TypeError as error:
            raise TypeError(
                f"{type(self).__name__} takes order, cached, swap and the keywords of "
                f"torch.nn.{cell.upper()} (got {', '.join(kwargs)})"
            ) from error
        setattr(self, cell, network)

    @property
    def network(self) -> nn.RNNBase:
        """The recurrent network."""
        network: nn.RNNBase = getattr(self, self.cell)
        return network

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self.network.reset_parameters()

    def fold(self, x: Tensor, plan: FoldPlan, weight: Tensor | None) -> Tensor:
        if weight is not None:
            raise TypeError(f"{type(self).__name__} has no identity to interpolate towards")
        check_features(x, self.in_channels, type(self).__name__)
        check_dtype(x, self)
        out = x.new_zeros(plan.num_sets, self.out_channels)
        if plan.num_elements == 0:
            # Every parameter has a part in the result, if one of 0: distributed training waits.
            return out + sum(0 * p.sum() for p in self.parameters())
        rows, batch_sizes, sets = plan.sequence
        hidden = self._read(x.index_select(0, rows), batch_sizes)
        return out.to(hidden.dtype).index_copy(0, sets, hidden)

    def _read(self, x: Tensor, batch_sizes: list[int]) -> Tensor:
        """The last states ``[sets, out_channels]`` of the sets in the packed sequence ``x``.

        Step by step rather than by one call on the packed sequence, whose backward pass takes time
        proportional to the number of steps times the number of elements.
        """
        state: State = None
        finished: list[Tensor] = []
        history: list[State] = []  # after each step, for the swap loss
        for step in x.split(batch_sizes):
            if state is not None and step.size(0) < state[0].size(1):  # the smallest sets end here
                finished.append(state[0][-1, step.size(0) :])
                state = tuple(s[:, : step.size(0)] for s in state)
            previous = state if state is None or self.cell == "lstm" else state[0]
            state = self.network(step.unsqueeze(0), previous)[1]
            state = state if isinstance(state, tuple) else (state,)
            if self.swap and self.training and torch.is_grad_enabled():
                history.append(state)
        assert state is not None
        if history:
            self.penalize(self.swap * swap_loss(self.network, x, history, batch_sizes))
        return torch.cat([state[0][-1], *reversed(finished)])

    def __repr__(self) -> str:
        order = "" if self.order == "given" else f", order={self.order!r}"
        order += f", swap={self.swap}" if self.swap else ""
        order += "".join(f", {name}={value!r}" for name, value in self._kwargs.items())
        return (
            f"{type(self).__name__}({self.in_channels}, {self.out_channels}, "
            f"cell={self.cell!r}{order})"
        )
