"""Molecules, as OGB ships them."""

from lcm_graph.datasets.molecules.molecules import BUNDLED as BUNDLED
from lcm_graph.datasets.molecules.molecules import Molecules as Molecules
from lcm_graph.datasets.molecules.molecules import load_molecules as load_molecules
