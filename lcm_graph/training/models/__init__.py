"""Models: a set function, and graph networks."""

from lcm_graph.training.models.graph_classifier import GraphClassifier as GraphClassifier
from lcm_graph.training.models.molecule_convs import MOLECULE_CONVS as MOLECULE_CONVS
from lcm_graph.training.models.molecule_gnn import MoleculeGNN as MoleculeGNN
from lcm_graph.training.models.multitask_gnn import MultitaskGNN as MultitaskGNN
from lcm_graph.training.models.node_gnn import NodeGNN as NodeGNN
from lcm_graph.training.models.set_model import BitEmbedding as BitEmbedding
from lcm_graph.training.models.set_model import SetModel as SetModel
from lcm_graph.training.models.token_sets import TokenSetClassifier as TokenSetClassifier
