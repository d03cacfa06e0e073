"""Attention to some of the keys: partition, score, budget, merge."""

from lcm_graph.attention.selective.block_budgets import BlockBudget as BlockBudget
from lcm_graph.attention.selective.block_budgets import calibrate as calibrate
from lcm_graph.attention.selective.block_budgets import tokens_of_heads as tokens_of_heads
from lcm_graph.attention.selective.budgets import entropy_budgets as entropy_budgets
from lcm_graph.attention.selective.budgets import global_threshold as global_threshold
from lcm_graph.attention.selective.budgets import top_fraction as top_fraction
from lcm_graph.attention.selective.budgets import top_tokens as top_tokens
from lcm_graph.attention.selective.call import selective_attention as selective_attention
from lcm_graph.attention.selective.entropy import effective_rank as effective_rank
from lcm_graph.attention.selective.entropy import matrix_entropy as matrix_entropy
from lcm_graph.attention.selective.entropy import summary_entropy as summary_entropy
from lcm_graph.attention.selective.hierarchy import hierarchical_clusters as hierarchical_clusters
from lcm_graph.attention.selective.hyper import hyper_attention as hyper_attention
from lcm_graph.attention.selective.key_index import KeyIndex as KeyIndex
from lcm_graph.attention.selective.scores import centroid_scores as centroid_scores
from lcm_graph.attention.selective.scores import observation_scores as observation_scores
from lcm_graph.attention.selective.scores import redundancy_scores as redundancy_scores
from lcm_graph.attention.selective.truncation import Truncation as Truncation
from lcm_graph.attention.selective.truncation import truncation as truncation
