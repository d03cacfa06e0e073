"""Data: synthetic sets and functions of them, graphs, and molecules.

Only :mod:`lcm_graph.training`, :mod:`lcm_graph.study` and the command line import this package.
OGB, networkx, pandas and scipy are imported on first use only.
"""

from lcm_graph.datasets.graphs import CITATIONS as CITATIONS
from lcm_graph.datasets.graphs import FAMILIES as FAMILIES
from lcm_graph.datasets.graphs import FOLDS as FOLDS
from lcm_graph.datasets.graphs import GRAPH_LABELS as GRAPH_LABELS
from lcm_graph.datasets.graphs import MULTITASK_COUNTS as MULTITASK_COUNTS
from lcm_graph.datasets.graphs import MULTITASK_SIZES as MULTITASK_SIZES
from lcm_graph.datasets.graphs import NODE_LABELS as NODE_LABELS
from lcm_graph.datasets.graphs import TokenSets as TokenSets
from lcm_graph.datasets.graphs import load_citations as load_citations
from lcm_graph.datasets.graphs import load_debian_dependencies as load_debian_dependencies
from lcm_graph.datasets.graphs import load_debian_files as load_debian_files
from lcm_graph.datasets.graphs import load_multitask_graphs as load_multitask_graphs
from lcm_graph.datasets.graphs import load_tu_graphs as load_tu_graphs
from lcm_graph.datasets.graphs import multitask_graphs as multitask_graphs
from lcm_graph.datasets.graphs import random_graph as random_graph
from lcm_graph.datasets.molecules import Molecules as Molecules
from lcm_graph.datasets.molecules import load_molecules as load_molecules
from lcm_graph.datasets.sets import ABS_TOLERANCE as ABS_TOLERANCE
from lcm_graph.datasets.sets import ANSWERS as ANSWERS
from lcm_graph.datasets.sets import MNIST_FUNCTIONS as MNIST_FUNCTIONS
from lcm_graph.datasets.sets import REL_TOLERANCE as REL_TOLERANCE
from lcm_graph.datasets.sets import SAMPLINGS as SAMPLINGS
from lcm_graph.datasets.sets import SET_FUNCTIONS as SET_FUNCTIONS
from lcm_graph.datasets.sets import IntegerSets as IntegerSets
from lcm_graph.datasets.sets import MNISTSets as MNISTSets
from lcm_graph.datasets.sets import RandomSets as RandomSets
from lcm_graph.datasets.sets import SetBatch as SetBatch
from lcm_graph.datasets.sets import SetFunction as SetFunction
from lcm_graph.datasets.sets import SetStream as SetStream
from lcm_graph.datasets.sets import best_constant as best_constant
from lcm_graph.datasets.sets import draw_values as draw_values
from lcm_graph.datasets.sets import encode as encode
from lcm_graph.datasets.sets import is_right as is_right
from lcm_graph.datasets.sets import kth_minimum as kth_minimum
from lcm_graph.datasets.sets import load_mnist as load_mnist
from lcm_graph.datasets.sets import modular_sum as modular_sum
from lcm_graph.datasets.sets import set_function as set_function
