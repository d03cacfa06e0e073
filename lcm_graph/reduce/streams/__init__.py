"""Folds that go on: sets whose elements come chunk by chunk, and are not kept."""

from lcm_graph.reduce.streams.accumulator import Accumulator as Accumulator
from lcm_graph.reduce.streams.chunks import fold_chunks as fold_chunks
from lcm_graph.reduce.streams.source import accumulate as accumulate
