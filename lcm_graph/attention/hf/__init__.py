"""Hugging Face's language models with a compressed context (extra ``hf``)."""

import importlib.util

if importlib.util.find_spec("transformers") is None:
    raise ImportError(
        "transformers is needed for lcm_graph.attention.hf; install it with: pip install "
        "'lcm-graph[hf]'"
    )

from lcm_graph.attention.hf.bounded_layer import BoundedLayer as BoundedLayer
from lcm_graph.attention.hf.bounded_layer import bounded_cache as bounded_cache
from lcm_graph.attention.hf.context import Context as Context
from lcm_graph.attention.hf.context import compress as compress
from lcm_graph.attention.hf.interface import register_attention as register_attention
from lcm_graph.attention.hf.policies import Clusters as Clusters
from lcm_graph.attention.hf.policies import Everything as Everything
from lcm_graph.attention.hf.policies import FirstAndLatest as FirstAndLatest
from lcm_graph.attention.hf.policies import HeadEntropy as HeadEntropy
from lcm_graph.attention.hf.policies import Policy as Policy
from lcm_graph.attention.hf.policies import Surprisal as Surprisal
from lcm_graph.attention.hf.rotary import rope_of as rope_of
