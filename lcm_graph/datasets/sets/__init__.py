"""Sets drawn as they are needed: integers and pictured digits, and functions of them."""

from lcm_graph.datasets.sets.answers import ABS_TOLERANCE as ABS_TOLERANCE
from lcm_graph.datasets.sets.answers import ANSWERS as ANSWERS
from lcm_graph.datasets.sets.answers import REL_TOLERANCE as REL_TOLERANCE
from lcm_graph.datasets.sets.answers import best_constant as best_constant
from lcm_graph.datasets.sets.answers import encode as encode
from lcm_graph.datasets.sets.answers import is_right as is_right
from lcm_graph.datasets.sets.integer_sets import IntegerSets as IntegerSets
from lcm_graph.datasets.sets.mnist_raw import load_mnist as load_mnist
from lcm_graph.datasets.sets.mnist_sets import MNIST_FUNCTIONS as MNIST_FUNCTIONS
from lcm_graph.datasets.sets.mnist_sets import MNISTSets as MNISTSets
from lcm_graph.datasets.sets.random_sets import RandomSets as RandomSets
from lcm_graph.datasets.sets.set_batch import SetBatch as SetBatch
from lcm_graph.datasets.sets.set_functions import SET_FUNCTIONS as SET_FUNCTIONS
from lcm_graph.datasets.sets.set_functions import SetFunction as SetFunction
from lcm_graph.datasets.sets.set_functions import kth_minimum as kth_minimum
from lcm_graph.datasets.sets.set_functions import modular_sum as modular_sum
from lcm_graph.datasets.sets.set_functions import set_function as set_function
from lcm_graph.datasets.sets.set_sampling import SAMPLINGS as SAMPLINGS
from lcm_graph.datasets.sets.set_sampling import draw_values as draw_values
from lcm_graph.datasets.sets.set_stream import SetStream as SetStream
