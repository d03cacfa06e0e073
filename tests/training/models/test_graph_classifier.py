"""The network whose readouts are compared."""

import pytest
import torch
from torch_geometric.data import Batch, Data

from lcm_graph.training import GraphClassifier


def star(nodes):
    hub = torch.zeros(nodes - 1, dtype=torch.int64)
    leaves = torch.arange(1, nodes)
    return Data(edge_index=torch.stack([torch.cat([hub, leaves]), torch.cat([leaves, hub])]),
                num_nodes=nodes)  # fmt: skip


@pytest.mark.parametrize("readout", ["sum", "mean", "max", "lcm"])
def test_answers_begin_at_one_scale(readout):
    """However many nodes are added up."""
    torch.manual_seed(0)
    model = GraphClassifier(readout, 2, hidden=16, dropout=0.0).train()
    out = model(Batch.from_data_list([star(nodes) for nodes in range(20, 3000, 200)]))
    assert 0.05 <= out.std() <= 1.5 and out.abs().max() <= 5


def test_a_batch_of_one_graph():
    out = GraphClassifier("sum", 3, hidden=8).train()(Batch.from_data_list([star(5)]))
    assert out.shape == (1, 3) and out.isfinite().all()
