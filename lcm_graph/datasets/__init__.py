"""Synthetic set tasks and molecule graphs.

Only :mod:`lcm_graph.training` and the command line import this. OGB is imported on first use only.
"""

from lcm_graph.datasets.molecules import Molecules as Molecules
from lcm_graph.datasets.molecules import load_molecules as load_molecules
from lcm_graph.datasets.second_minimum import SecondMinimum as SecondMinimum
from lcm_graph.datasets.second_minimum import SetBatch as SetBatch
