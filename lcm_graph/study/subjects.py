"""What is compared, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch_geometric.nn.aggr import Aggregation

from lcm_graph.aggregators import (
    LCMAggregation,
    MixAggregation,
    MonoidAggregation,
    RecurrentAggregation,
    aggregation_by_name,
    pyg,
)
from lcm_graph.monoids import (
    AbelianGroup,
    BinaryGRU,
    BinaryLSTM,
    Fishnets,
    FourierProduct,
    GatedLattice,
    GeneralizedMean,
    KeyedTopK,
    Lattice,
    Monoid,
    Normalized,
    PairAttention,
    Rotation,
    SlotSelection,
)

_SLOTS = 4


@dataclass(frozen=True)
class Subject:
    """An aggregation under study.

    Attributes:
        make: ``make(bits, hidden)`` gives a new one, its weights drawn from the global generator.
        encode: True: it takes ``hidden`` features from the paper's encoder. False: it takes the
            ``bits`` of an element as they are, with a learned lift of its own.
        note: what it is, in a line.
        max_size: largest set that it can be asked about; None: any.
        batch_elements: elements that it is asked about at once, unless one set has more: fewer for
            what takes memory other than linear in the elements.
    """

    make: Callable[[int, int], Aggregation]
    encode: bool = True
    note: str = ""
    max_size: int | None = None
    batch_elements: int = 2**20


def _lcm(**training: Any) -> Callable[[int, int], Aggregation]:
    return lambda bits, hidden: LCMAggregation(hidden, hidden, order="random", **training)


def _named(name: str) -> Callable[[int, int], Aggregation]:
    return lambda bits, hidden: aggregation_by_name(name, hidden, hidden)


def _exact(monoid: Callable[[int], Monoid]) -> Callable[[int, int], Aggregation]:
    return lambda bits, hidden: MonoidAggregation(monoid(hidden))


def _on_bits(monoid: Callable[[int], Monoid]) -> Callable[[int, int], Aggregation]:
    return lambda bits, hidden: MonoidAggregation(monoid(bits))


def _slots(channels: int) -> Monoid:
    if channels % _SLOTS:
        raise ValueError(
            f"hidden must be a multiple of {_SLOTS}, the slots of a state (got {channels})"
        )
    return SlotSelection(channels, _SLOTS)


SUBJECTS: dict[str, Subject] = {
    "sum": Subject(_named("sum"), note="sum"),
    "mean": Subject(_named("mean"), note="mean"),
    "max": Subject(_named("max"), note="maximum"),
    "pna": Subject(lambda bits, hidden: pyg.pna(hidden), note="PyG's, with degree scalers"),
    "gru": Subject(_named("gru"), note="recurrent network, random order"),
    "gru-swap": Subject(
        lambda bits, hidden: RecurrentAggregation(hidden, hidden, order="random", swap=0.1),
        note="gru with the swap loss, weight 0.1",
    ),
    "lcm": Subject(_lcm(), note="BinaryGRU, random order"),
    "lcm-assoc": Subject(_lcm(associativity=1.0), note="lcm with the associativity loss, weight 1"),
    "lcm-brackets": Subject(_lcm(bracketing="random"), note="lcm trained on random trees"),
    "lcm-brackets-assoc": Subject(
        _lcm(bracketing="random", associativity=1.0), note="lcm on random trees, with the loss"
    ),
    "lcm-normalized": Subject(
        _lcm(operator=lambda channels: Normalized(BinaryGRU(channels)), bracketing="random"),
        note="lcm-brackets with states of root mean square 1",
    ),
    "lstm": Subject(_lcm(operator=BinaryLSTM, bracketing="random"), note="Tree-LSTM, random trees"),
    "gated-lattice": Subject(
        _lcm(operator=lambda channels: GatedLattice(channels, correction=True)),
        note="gate between minimum and maximum",
    ),
    "pair-attention": Subject(
        _lcm(operator=PairAttention, bracketing="random"), note="attention over two, random trees"
    ),
    "slots": Subject(_lcm(operator=_slots), note="slots that pick among those of both"),
    "slots-assoc": Subject(
        _lcm(operator=_slots, associativity=1.0),
        note="slots with the associativity loss, weight 1",
    ),
    "slots-brackets": Subject(
        _lcm(operator=_slots, bracketing="random"), note="slots trained on random trees"
    ),
    "abelian": Subject(_exact(AbelianGroup), note="sum behind an invertible map"),
    "fourier": Subject(_exact(FourierProduct), note="products of spectra"),
    "generalized-mean": Subject(_exact(GeneralizedMean), note="learned means and sums"),
    "fishnets": Subject(_exact(Fishnets), note="scores weighed by Fisher matrices"),
    "lattice": Subject(_exact(Lattice), note="joins and meets"),
    "keyed-topk": Subject(
        _on_bits(lambda bits: KeyedTopK(bits, k=4)),
        encode=False,
        note="the first four elements in a learned order",
    ),
    "rotation": Subject(_on_bits(Rotation), encode=False, note="learned rotations, snapped"),
    "mix": Subject(
        lambda bits, hidden: MixAggregation(bits, hidden),
        encode=False,
        note="seven monoids at once, of which training keeps what is needed",
    ),
    "topk": Subject(_named("topk"), note="the two largest of each channel"),
    "pyg-lcm": Subject(
        lambda bits, hidden: pyg.lcm(hidden, hidden),
        note="PyG's LCMAggregation",
        batch_elements=2**18,  # all gates of a level at once
    ),
    "pyg-gru": Subject(lambda bits, hidden: pyg.gru(hidden, hidden), note="PyG's GRUAggregation"),
    "pyg-deepsets": Subject(lambda bits, hidden: pyg.deep_sets(hidden), note="PyG's DeepSets"),
    "pyg-set-transformer": Subject(
        lambda bits, hidden: pyg.set_transformer(hidden),
        note="PyG's Set Transformer, 4 heads",
        max_size=1000,
        batch_elements=2**14,  # sets of 1000: 16, with 2^24 pairs
    ),
}
"""Every subject that a study's configuration may name."""
