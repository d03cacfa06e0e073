"""The tasks that the training loop knows."""

from lcm_graph.training.tasks.graph_task import GraphTask as GraphTask
from lcm_graph.training.tasks.molecule_task import MoleculeTask as MoleculeTask
from lcm_graph.training.tasks.multitask_task import LABELS as LABELS
from lcm_graph.training.tasks.multitask_task import MultitaskTask as MultitaskTask
from lcm_graph.training.tasks.node_task import NodeTask as NodeTask
from lcm_graph.training.tasks.set_task import SetTask as SetTask
from lcm_graph.training.tasks.set_task import set_accuracy as set_accuracy
from lcm_graph.training.tasks.token_set_task import TokenSetTask as TokenSetTask
