"""Folds of sets whose elements lie with several processes."""

from lcm_graph.reduce.shards.reduce import distributed_reduce as distributed_reduce
