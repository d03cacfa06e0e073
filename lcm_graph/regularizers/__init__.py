"""Losses that pull a learned operator towards the laws of a commutative monoid."""

from lcm_graph.regularizers.laws import associativity_error as associativity_error
from lcm_graph.regularizers.laws import associativity_loss as associativity_loss
from lcm_graph.regularizers.laws import commutativity_loss as commutativity_loss
from lcm_graph.regularizers.swap import swap_loss as swap_loss
