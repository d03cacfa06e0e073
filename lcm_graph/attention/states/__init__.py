"""What attention folds: monoids whose states are read by a query, or were made for one."""

from lcm_graph.attention.states.cluster_summary import ClusterState as ClusterState
from lcm_graph.attention.states.cluster_summary import ClusterSummary as ClusterSummary
from lcm_graph.attention.states.linear_attention import LinearAttention as LinearAttention
from lcm_graph.attention.states.linear_attention import LinearState as LinearState
from lcm_graph.attention.states.softmax_attention import AttentionState as AttentionState
from lcm_graph.attention.states.softmax_attention import SoftmaxAttention as SoftmaxAttention
from lcm_graph.attention.states.softmax_attention import merge as merge
from lcm_graph.attention.states.softmax_attention import reweigh as reweigh
from lcm_graph.attention.states.top_memory import MemoryState as MemoryState
from lcm_graph.attention.states.top_memory import TopMemory as TopMemory
