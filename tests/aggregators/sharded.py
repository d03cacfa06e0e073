"""What the processes of the tests of shard do."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch_geometric.nn import SAGEConv

from lcm_graph import LCMAggregation, MonoidAggregation, shard
from lcm_graph.aggregators import FusedMessages
from lcm_graph.monoids import Moments, Softmax

D, NODES = 4, 13


class FusedSAGEConv(FusedMessages, SAGEConv):
    """Reads neighbours in place."""


class Net(nn.Module):
    """Layers of several kinds of aggregators."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [
                SAGEConv(D, D, aggr=LCMAggregation(D, D)),
                FusedSAGEConv(D, D, aggr=LCMAggregation(D, D)),
                SAGEConv((2 * D, D), D, aggr=MonoidAggregation(Moments(D))),
                SAGEConv(D, D, aggr=MonoidAggregation(Softmax(D, learn=True))),
            ]
        )

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        for conv in self.convs:
            x = conv(x, edge_index).tanh()
        return x


def graph() -> tuple[Net, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A net, features, edges with a hub, and a cotangent: the same everywhere."""
    torch.manual_seed(3)
    net = Net().double()
    x, cotangent = torch.randn(2, NODES, D, dtype=torch.float64)
    edges = torch.stack([torch.randint(0, NODES, (70,)), torch.randint(0, NODES - 1, (70,))])
    edges[1, :25] = 0
    return net, x, edges, cotangent


def layers(rank: int) -> dict[str, Any]:
    """Values, gradients summed over the ranks, and what a copy says."""
    net, x, edges, cotangent = graph()
    shard(net, dist.group.WORLD)
    out = net(x, edges[:, :31] if rank == 0 else edges[:, 31:])
    nodes = slice(0, 6) if rank == 0 else slice(6, NODES)
    (out[nodes] * cotangent[nodes]).sum().backward()
    gradients = {}
    for name, weight in net.named_parameters():
        gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
        dist.all_reduce(gradient)
        gradients[name] = gradient
    try:
        copy.deepcopy(net)(x, edges)
    except RuntimeError as error:
        said = str(error)
    else:
        said = "nothing"
    return {"out": out.detach(), "gradients": gradients, "said": said}


def other_parameters(rank: int) -> str:
    """What is said where ranks have drawn different ones."""
    torch.manual_seed(rank)
    try:
        shard(Net())
    except ValueError as error:
        return str(error)
    return "nothing"
