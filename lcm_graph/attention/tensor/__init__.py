"""Attention of queries to pairs of keys, and to more than pairs."""

from lcm_graph.attention.tensor.call import FORMS as FORMS
from lcm_graph.attention.tensor.call import METHODS as METHODS
from lcm_graph.attention.tensor.call import tensor_attention as tensor_attention
from lcm_graph.attention.tensor.error_bound import polynomial_error as polynomial_error
from lcm_graph.attention.tensor.polynomial import PolynomialAttention as PolynomialAttention
