"""Graphs: random ones and their labels, discussions, packages and their files."""

from lcm_graph.datasets.graphs.citations import CITATIONS as CITATIONS
from lcm_graph.datasets.graphs.citations import load_citations as load_citations
from lcm_graph.datasets.graphs.debian import TokenSets as TokenSets
from lcm_graph.datasets.graphs.debian import load_debian_dependencies as load_debian_dependencies
from lcm_graph.datasets.graphs.debian import load_debian_files as load_debian_files
from lcm_graph.datasets.graphs.graph_labels import GRAPH_LABELS as GRAPH_LABELS
from lcm_graph.datasets.graphs.graph_labels import NODE_LABELS as NODE_LABELS
from lcm_graph.datasets.graphs.multitask_graphs import MULTITASK_COUNTS as MULTITASK_COUNTS
from lcm_graph.datasets.graphs.multitask_graphs import MULTITASK_SIZES as MULTITASK_SIZES
from lcm_graph.datasets.graphs.multitask_graphs import (
    load_multitask_graphs as load_multitask_graphs,
)
from lcm_graph.datasets.graphs.multitask_graphs import multitask_graphs as multitask_graphs
from lcm_graph.datasets.graphs.random_graphs import FAMILIES as FAMILIES
from lcm_graph.datasets.graphs.random_graphs import random_graph as random_graph
from lcm_graph.datasets.graphs.tu import FOLDS as FOLDS
from lcm_graph.datasets.graphs.tu import load_tu_graphs as load_tu_graphs
