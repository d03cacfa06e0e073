"""The kernels of this library; importing this registers them."""

from lcm_graph.kernels.binary_gru import op as op
