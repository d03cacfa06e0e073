"""Folds of sets whose elements lie with several processes."""

from lcm_graph.reduce.shards.reduce import distributed_reduce as distributed_reduce
from lcm_graph.reduce.shards.reduce import ranks_of as ranks_of
