"""Attention as a fold: states of queries, keys and tokens that merge.

``attend`` and ``merge``, the monoids of attention, and ``tensor_attention`` are here. In rooms of
their own: ``sets`` (Set Transformers, Perceivers, slots, as aggregators), ``selective`` (a part of
the keys, the rest summarised or sampled), ``windows`` (the first and the latest keys), ``memories``
(what is kept of a stream), ``prefixes`` (prefixes as states) and ``hf`` (language models).
"""

from lcm_graph.attention.dense import attend as attend
from lcm_graph.attention.states import AttentionState as AttentionState
from lcm_graph.attention.states import ClusterState as ClusterState
from lcm_graph.attention.states import ClusterSummary as ClusterSummary
from lcm_graph.attention.states import LinearAttention as LinearAttention
from lcm_graph.attention.states import LinearState as LinearState
from lcm_graph.attention.states import MemoryState as MemoryState
from lcm_graph.attention.states import SoftmaxAttention as SoftmaxAttention
from lcm_graph.attention.states import TopMemory as TopMemory
from lcm_graph.attention.states import merge as merge
from lcm_graph.attention.states import reweigh as reweigh
from lcm_graph.attention.tensor import PolynomialAttention as PolynomialAttention
from lcm_graph.attention.tensor import polynomial_error as polynomial_error
from lcm_graph.attention.tensor import tensor_attention as tensor_attention
