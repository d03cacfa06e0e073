"""Prefixes of any length, as a state of fixed size."""

from lcm_graph.attention.prefixes.prefix_state import FEATURES as FEATURES
from lcm_graph.attention.prefixes.prefix_state import PrefixState as PrefixState
