"""Attention of queries to keys, as a state that merges with others."""

from lcm_graph.attention.dense.call import BACKENDS as BACKENDS
from lcm_graph.attention.dense.call import attend as attend
