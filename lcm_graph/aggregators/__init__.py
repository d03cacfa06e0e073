"""The PyG face: ``Aggregation`` subclasses that lift, reduce and lower."""

from lcm_graph.aggregators.base import FoldAggregation as FoldAggregation
from lcm_graph.aggregators.by_name import AGGREGATIONS as AGGREGATIONS
from lcm_graph.aggregators.by_name import BASELINES as BASELINES
from lcm_graph.aggregators.by_name import aggregation_by_name as aggregation_by_name
from lcm_graph.aggregators.closed_form import MaxAggregation as MaxAggregation
from lcm_graph.aggregators.closed_form import MeanAggregation as MeanAggregation
from lcm_graph.aggregators.closed_form import MinAggregation as MinAggregation
from lcm_graph.aggregators.closed_form import SumAggregation as SumAggregation
from lcm_graph.aggregators.closed_form import TopKAggregation as TopKAggregation
from lcm_graph.aggregators.explain import explain_message as explain_message
from lcm_graph.aggregators.fused import FusedMessages as FusedMessages
from lcm_graph.aggregators.lcm import LCMAggregation as LCMAggregation
from lcm_graph.aggregators.mix import MixAggregation as MixAggregation
from lcm_graph.aggregators.mix import plan_choices as plan_choices
from lcm_graph.aggregators.monoid import MonoidAggregation as MonoidAggregation
from lcm_graph.aggregators.recurrent import RecurrentAggregation as RecurrentAggregation
from lcm_graph.aggregators.regularization import regularization as regularization
from lcm_graph.aggregators.shard import shard as shard
from lcm_graph.aggregators.tree import TreeAggregation as TreeAggregation
