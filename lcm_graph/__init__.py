"""Fold sets: learnable commutative monoids for PyTorch Geometric."""

import lcm_graph.kernels.shipped  # noqa: F401  (registers them)
from lcm_graph.aggregators import LCMAggregation as LCMAggregation
from lcm_graph.aggregators import MixAggregation as MixAggregation
from lcm_graph.aggregators import MonoidAggregation as MonoidAggregation
from lcm_graph.aggregators import RecurrentAggregation as RecurrentAggregation
from lcm_graph.aggregators import SumAggregation as SumAggregation
from lcm_graph.aggregators import plan_choices as plan_choices
from lcm_graph.aggregators import regularization as regularization
from lcm_graph.aggregators import shard as shard
from lcm_graph.reduce import Accumulator as Accumulator
from lcm_graph.reduce import FoldPlan as FoldPlan
from lcm_graph.reduce import FoldTree as FoldTree
from lcm_graph.reduce import distributed_reduce as distributed_reduce
from lcm_graph.reduce import segment_reduce as segment_reduce

__version__ = "0.1.0"
