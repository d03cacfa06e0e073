"""What is combined: commutative monoids, written down or learned."""

from lcm_graph.monoids.addition import Sum as Sum
from lcm_graph.monoids.base import Monoid as Monoid
from lcm_graph.monoids.extremum import Max as Max
from lcm_graph.monoids.extremum import Min as Min
from lcm_graph.monoids.gru import BinaryGRU as BinaryGRU
from lcm_graph.monoids.learned import Adjoined as Adjoined
from lcm_graph.monoids.learned import LearnedMonoid as LearnedMonoid
from lcm_graph.monoids.logsumexp import LogSumExp as LogSumExp
from lcm_graph.monoids.mean import Mean as Mean
from lcm_graph.monoids.mean import MeanState as MeanState
from lcm_graph.monoids.mlp import BinaryMLP as BinaryMLP
from lcm_graph.monoids.moments import Moments as Moments
from lcm_graph.monoids.moments import MomentsState as MomentsState
from lcm_graph.monoids.product import Product as Product
from lcm_graph.monoids.softmax import Softmax as Softmax
from lcm_graph.monoids.softmax import SoftmaxState as SoftmaxState
from lcm_graph.monoids.state import State as State
from lcm_graph.monoids.symmetrized import Symmetrized as Symmetrized
from lcm_graph.monoids.topk import TopK as TopK
