"""Fast paths for a particular monoid and traversal, each beside its plain reference."""

from lcm_graph.kernels.backend import backend as backend
from lcm_graph.kernels.backend import current_backend as current_backend
from lcm_graph.kernels.backend import record_kernels as record_kernels
