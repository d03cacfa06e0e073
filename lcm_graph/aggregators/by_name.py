"""Aggregators by name, for command lines and configurations."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn
from torch_geometric.nn.aggr import Aggregation, DegreeScalerAggregation

from lcm_graph.aggregators import pyg
from lcm_graph.aggregators.lcm import LCMAggregation
from lcm_graph.aggregators.mix import MixAggregation
from lcm_graph.aggregators.monoid import MonoidAggregation
from lcm_graph.aggregators.recurrent import RecurrentAggregation
from lcm_graph.monoids import (
    BinaryMLP,
    Lifted,
    Max,
    Mean,
    Min,
    Moments,
    Monoid,
    Product,
    SlotSelection,
    Softmax,
    Sum,
    TopK,
)

ASSOCIATIVITY = 0.1  #: weight of the associativity loss of ``"lcm-assoc"``

SCALERS = ("identity", "amplification", "attenuation")  #: of ``"pna"``, where degrees are given


def _four_slots(channels: int) -> Monoid:
    return SlotSelection(channels, math.gcd(channels, 4))


def _lifted(monoid: type[Monoid], channels: int, width: int) -> Aggregation:
    lift = nn.Sequential(nn.Linear(channels, width), nn.ReLU())
    return MonoidAggregation(Lifted(lift, monoid(width), channels))


_MAKERS: dict[str, Callable[[int, int], Aggregation]] = {
    "sum": lambda i, o: MonoidAggregation(Sum(i)),
    "mean": lambda i, o: MonoidAggregation(Mean(i)),
    "max": lambda i, o: MonoidAggregation(Max(i)),
    "min": lambda i, o: MonoidAggregation(Min(i)),
    "std": lambda i, o: MonoidAggregation(Moments(i, statistics=("std",))),
    "softmax": lambda i, o: MonoidAggregation(Softmax(i, learn=True)),
    "topk": lambda i, o: MonoidAggregation(TopK(i, k=2)),
    "pna": lambda i, o: MonoidAggregation(Product(Moments(i), Max(i), Min(i))),
    "lifted-sum": lambda i, o: _lifted(Sum, i, o),
    "lifted-max": lambda i, o: _lifted(Max, i, o),
    "gru": lambda i, o: RecurrentAggregation(i, o, cell="gru", order="random"),
    "lstm": lambda i, o: RecurrentAggregation(i, o, cell="lstm", order="random"),
    "rnn": lambda i, o: RecurrentAggregation(i, o, cell="rnn", order="random"),
    "lcm": lambda i, o: LCMAggregation(i, o, order="random"),
    "lcm-assoc": lambda i, o: LCMAggregation(i, o, order="random", associativity=ASSOCIATIVITY),
    "slots": lambda i, o: LCMAggregation(i, o, operator=_four_slots, order="random"),
    "mlp": lambda i, o: LCMAggregation(i, o, operator=BinaryMLP, order="random"),
    "mix": lambda i, o: MixAggregation(i, o),
}

AGGREGATIONS: tuple[str, ...] = tuple(_MAKERS)

BASELINES: dict[str, Callable[[int, int], Aggregation]] = {"pyg-lcm": pyg.lcm, "pyg-gru": pyg.gru}
"""PyG's own: what they answer depends on the other sets of a batch."""


def aggregation_by_name(
    name: str, in_channels: int, out_channels: int, *, degree: Tensor | None = None
) -> Aggregation:
    """Make the aggregation called ``name``.

    Learned ones shuffle while training, as the paper trains them. Closed-form ones keep
    ``in_channels`` or a multiple of it: ask the result for its ``out_channels``. ``"pna"`` is mean,
    std, max and min side by side; with ``degree``, each once for each of the degree scalers
    :data:`SCALERS` (Corso et al., "Principal Neighbourhood Aggregation for Graph Nets", 2020, eq. 5
    and 8). Other names do not look at ``degree``. ``"lifted-sum"`` and ``"lifted-max"`` are these
    behind the linear layer and ReLU with which ``"lcm"`` begins.

    Args:
        name: one of :data:`AGGREGATIONS` or :data:`BASELINES`.
        in_channels: size of each element.
        out_channels: size of each output, where the aggregation is free to choose it.
        degree: integers ``[max degree + 1]``, how many nodes of the training set have 0, 1, 2, …
            neighbours, as :func:`torch_geometric.nn.PNAConv` takes it.

    Raises:
        ValueError: there is no such name.
    """
    make = _MAKERS.get(name) or BASELINES.get(name)
    if make is None:
        raise ValueError(
            f"'name' of an aggregation must be one of {', '.join([*AGGREGATIONS, *BASELINES])} "
            f"(got {name!r})"
        )
    made = make(in_channels, out_channels)
    if name == "pna" and degree is not None:
        width = len(SCALERS) * int(made.out_channels)
        made = DegreeScalerAggregation(made, list(SCALERS), degree)
        made.out_channels = width
    return made
