"""Heavy tails: Debian's packages, classified by their dependencies or by their files.

    python examples/debian.py --root ROOT [--task deps] [--aggr mean max gru lcm] [--parts 1]

``ROOT`` holds ``deps.npz`` and ``files.npz``. In ``deps``, one graph of 106,411 nodes, a package is
classified by whom it names and who names it; the largest neighbourhood has 37,664 members. In
``files``, 35,135 sets of up to 10,422 tokens, by the parts of its file names. Time is that of an
epoch's training steps; memory is what the run's process grew by at most.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import PNAConv

from lcm_graph.datasets import load_debian_dependencies, load_debian_files
from lcm_graph.training import (
    COLUMNS,
    NodeGNN,
    NodeTask,
    Task,
    TokenSetClassifier,
    TokenSetTask,
    compare,
    comparison_parser,
    fit_and_test,
    peak_memory,
)

SPLIT_SEED = 0  # which packages are trained on and tested, the same in all runs


def split(labelled: torch.Tensor) -> dict[str, torch.Tensor]:
    """Three in five of the labelled ones to learn from, one in five to choose by, and to test."""
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    mixed = labelled[torch.randperm(len(labelled), generator=generator)]
    fifth = len(labelled) // 5
    return {"train": mixed[2 * fifth :], "valid": mixed[:fifth], "test": mixed[fifth : 2 * fifth]}


def both_ways(data: Data) -> Data:
    """Each edge against its direction too, as an edge of a type of its own."""
    data = data.clone()
    data.edge_index = torch.cat([data.edge_index, data.edge_index.flip(0)], dim=1)
    data.edge_type = torch.cat([data.edge_type, data.edge_type + data.num_edge_types])
    return data


def prepare(
    task: str, root: str, aggr: str, seed: int, hidden: int, layers: int, parts: int
) -> tuple[nn.Module, Task]:
    """A model, and what it is to learn."""
    if task == "files":
        sets = load_debian_files(root)
        torch.manual_seed(seed)
        classifier = TokenSetClassifier(aggr, sets.num_tokens, sets.num_classes, hidden)
        return classifier, TokenSetTask(sets, split(torch.arange(len(sets.y))), batch_size=256)
    data = both_ways(load_debian_dependencies(root))
    degrees = PNAConv.get_degree_histogram([data])
    torch.manual_seed(seed)
    model = NodeGNN(
        aggr,
        data.num_nodes,
        data.num_edge_types,
        data.num_classes,
        hidden,
        layers,
        degree=degrees,
    )
    return model, NodeTask(data, split((data.y >= 0).nonzero().flatten()), parts=parts)


def train(
    aggr: str,
    seed: int,
    epochs: int,
    device: str,
    task: str,
    root: str,
    hidden: int,
    layers: int,
    parts: int,
    lr: float,
) -> dict[str, Any]:
    """One run: accuracy at the best validation epoch."""
    model, learned = prepare(task, root, aggr, seed, hidden, layers, parts)
    with peak_memory(device) as peak:
        found = fit_and_test(model, learned, epochs=epochs, lr=lr, seed=seed, device=device)
    return found | {"peak_mib": peak.growth / 2**20}


def main() -> None:
    """Compare aggregations."""
    parser = comparison_parser(
        __doc__, aggr=["mean", "max", "gru", "lcm"], runs=3, epochs=30, out="out/debian"
    )
    parser.add_argument("--root", required=True, help="folder of deps.npz and files.npz")
    parser.add_argument("--task", choices=("deps", "files"), default="deps", help="what to learn")
    parser.add_argument("--hidden", type=int, default=32, help="size of states")
    parser.add_argument("--layers", type=int, default=2, help="message-passing layers, for deps")
    parser.add_argument("--parts", type=int, default=1, help="training steps an epoch, for deps")
    parser.add_argument("--lr", type=float, default=1e-2, help="peak learning rate")
    args = parser.parse_args()
    if args.smoke:
        args.runs, args.epochs, args.hidden, args.layers = 1, 1, 4, 1
    names = ("task", "root", "hidden", "layers", "parts", "lr")
    compare(
        train,
        args,
        {name: getattr(args, name) for name in names},
        COLUMNS | {"peak MiB": lambda result: result["peak_mib"]},
    )


if __name__ == "__main__":
    main()
