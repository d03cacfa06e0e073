"""Attention to the first tokens and to those near by."""

from lcm_graph.attention.windows.lambda_mask import lambda_attention as lambda_attention
from lcm_graph.attention.windows.rope import Rope as Rope
