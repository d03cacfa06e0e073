"""What padding does to PyG's LCMAggregation: the same set gets another answer in other company."""

import torch
from torch_geometric.nn.aggr import LCMAggregation as PyGLCM

from lcm_graph import LCMAggregation

torch.manual_seed(0)
pyg = PyGLCM(16, 16, project=False)
ours = LCMAggregation(16, 16, project=False)
ours.load_state_dict(pyg.state_dict())

x = torch.randn(6, 16)  # a set of two elements, and one of four
index = torch.tensor([0, 0, 1, 1, 1, 1])
for name, aggr in [("PyG", pyg), ("lcm_graph", ours)]:
    alone = aggr(x[:2], index[:2])[0]
    together = aggr(x, index)[0]
    print(f"{name}: the set of two changes by {(together - alone).norm() / alone.norm():.0%}")
