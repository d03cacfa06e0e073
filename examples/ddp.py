"""Distributed training: the losses of several processes are those of one.

    python examples/ddp.py --steps 20 --out one.json
    torchrun --nproc-per-node 2 examples/ddp.py --steps 20 --out two.json

Each process takes its share of every batch of FreeSolv's molecules, which the package brings;
gradients are averaged by torch's DistributedDataParallel, over gloo on CPU and NCCL on GPUs.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from ogb.graphproppred.mol_encoder import AtomEncoder
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch_geometric.data import Batch
from torch_geometric.nn import SAGEConv

from lcm_graph import LCMAggregation
from lcm_graph.datasets import load_molecules

HIDDEN, BATCH = 32, 33  # an odd number of graphs: shares may differ


class Net(nn.Module):
    """Two layers and a readout, all of them learnable commutative monoids."""

    def __init__(self) -> None:
        super().__init__()
        self.atoms = AtomEncoder(HIDDEN)
        self.convs = nn.ModuleList(
            SAGEConv(HIDDEN, HIDDEN, aggr=LCMAggregation(HIDDEN, HIDDEN)) for _ in range(2)
        )
        self.readout = LCMAggregation(HIDDEN, HIDDEN)
        self.head = nn.Linear(HIDDEN, 1)

    def forward(self, batch: Any) -> Tensor:
        """A PyG ``Batch`` of G graphs -> ``[G]``."""
        x = self.atoms(batch.x)
        for conv in self.convs:
            x = conv(x, batch.edge_index).relu()
        out: Tensor = self.head(self.readout(x, ptr=batch.ptr))
        return out.squeeze(1)


def main() -> None:
    """Train for some steps and write the losses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("out/ddp.json"))
    parser.add_argument("--smoke", action="store_true", help="see that it runs: seconds")
    args = parser.parse_args()
    if args.smoke:
        args.steps = 2
    if args.steps < 1:
        parser.error(f"--steps must be at least 1 (got {args.steps})")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    on_cuda = torch.cuda.device_count() >= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    device = torch.device("cuda", local) if on_cuda else torch.device("cpu")
    if on_cuda:
        torch.cuda.set_device(local)
    if world > 1:
        dist.init_process_group("nccl" if on_cuda else "gloo")

    train = load_molecules("ogbg-molfreesolv").subset("train")
    torch.manual_seed(0)
    net: nn.Module = Net().to(device)
    if world > 1:
        net = DistributedDataParallel(net)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    order = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(args.steps):
        chosen = torch.randperm(len(train), generator=order)[:BATCH]  # the same in all processes
        batch = Batch.from_data_list([train[int(i)] for i in chosen[rank::world]]).to(device)
        squared = F.mse_loss(net(batch), batch.y.flatten(), reduction="sum")
        optimizer.zero_grad()
        (squared * world / BATCH).backward()  # the average over processes is the batch's mean
        optimizer.step()
        total = squared.detach()
        if world > 1:
            dist.all_reduce(total)
        losses.append(float(total) / BATCH)
    if rank == 0:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({"processes": world, "losses": losses}) + "\n")
        print(f"{world} processes, {args.steps} steps: loss {losses[0]:.4f} -> {losses[-1]:.4f}")
    if world > 1:
        dist.barrier()  # nobody leaves while another still waits for its part
        del net, optimizer, squared
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
