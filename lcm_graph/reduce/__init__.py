"""How many states become one: traversals that know the monoid protocol and no concrete monoid."""

from lcm_graph.reduce.dynamic import FoldTree as FoldTree
from lcm_graph.reduce.plan import FoldPlan as FoldPlan
from lcm_graph.reduce.scan import prefix_reduce as prefix_reduce
from lcm_graph.reduce.scan import window_reduce as window_reduce
from lcm_graph.reduce.segment import segment_reduce as segment_reduce
from lcm_graph.reduce.segment import tree_reduce as tree_reduce
from lcm_graph.reduce.sequential import sequential_reduce as sequential_reduce
from lcm_graph.reduce.shards import distributed_reduce as distributed_reduce
from lcm_graph.reduce.streams import Accumulator as Accumulator
from lcm_graph.reduce.streams import accumulate as accumulate
from lcm_graph.reduce.streams import fold_chunks as fold_chunks
