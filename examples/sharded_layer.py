"""A layer whose edges lie with several processes: the answers and gradients of one.

    torchrun --nproc-per-node 2 examples/sharded_layer.py [--root ROOT]

With ``--root`` on the dependencies of Debian's packages (``ROOT`` holds ``deps.npz``), whose hubs
have 37,664 neighbours; without, on a random graph with hubs. Every process has all nodes' features
and its share of the edges, which cuts through the hubs; each answers for its share of the nodes.
Rank 0 does the same alone, and tells how far apart values and gradients are.
"""

from __future__ import annotations

import argparse
import copy
import os
import time

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch_geometric.nn import SAGEConv

from lcm_graph import LCMAggregation, shard
from lcm_graph.datasets import load_debian_dependencies

NODES, EDGES = 2_000, 20_000  # of the random graph


def graph(root: str | None) -> tuple[Tensor, int]:
    """Edges int64 ``[2, E]``, by target, and the number of nodes."""
    if root is not None:
        data = load_debian_dependencies(root)
        edges, nodes = data.edge_index, int(data.num_nodes)
    else:
        generator = torch.Generator().manual_seed(0)
        ends = torch.rand(2, EDGES, generator=generator)
        edges, nodes = (NODES * ends**4).long(), NODES  # the first nodes are hubs
    return edges[:, edges[1].argsort(stable=True)], nodes


def step(conv: nn.Module, x: Tensor, edges: Tensor, mine: slice, cotangent: Tensor) -> Tensor:
    """The layer's output, after the gradients of what one process answers for."""
    out: Tensor = conv(x, edges)
    (out[mine] * cotangent[mine]).sum().backward()
    return out.detach()


def difference(found: Tensor, expected: Tensor) -> float:
    """Relative to the largest number."""
    return float((found - expected).abs().max() / expected.abs().max())


def main() -> None:
    """Fold together, then alone, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", help="folder of deps.npz")
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--smoke", action="store_true", help="see that it runs: seconds")
    args = parser.parse_args()
    if args.smoke:
        args.channels = 4
    if "RANK" not in os.environ:
        parser.error("start it by torchrun, which makes the processes")
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // world))

    edges, nodes = graph(args.root)
    torch.manual_seed(0)
    d = args.channels
    x, cotangent = torch.randn(nodes, d), torch.randn(nodes, d)
    conv = SAGEConv(d, d, aggr=LCMAggregation(d, d))
    alone = copy.deepcopy(conv)

    my_edges = edges.tensor_split(world, dim=1)[rank]
    my_nodes = slice(nodes * rank // world, nodes * (rank + 1) // world)
    dist.barrier()
    began = time.perf_counter()
    out = step(shard(conv), x, my_edges, my_nodes, cotangent)
    for weight in conv.parameters():
        dist.all_reduce(weight.grad)
    seconds = time.perf_counter() - began
    if rank == 0:
        began = time.perf_counter()
        expected = step(alone, x, edges, slice(None), cotangent)
        seconds_alone = time.perf_counter() - began
        gradients = [
            difference(mine.grad, theirs.grad)
            for mine, theirs in zip(conv.parameters(), alone.parameters(), strict=True)
            if mine.grad is not None and theirs.grad is not None
        ]
        largest = int(torch.bincount(edges[1]).max())
        print(f"{nodes:,} nodes, {edges.size(1):,} edges, the largest set {largest:,}")
        print(f"{world} processes {seconds:.2f} s, one {seconds_alone:.2f} s")
        print(
            f"values differ by {difference(out, expected):.1e}, gradients by {max(gradients):.1e}"
        )
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
