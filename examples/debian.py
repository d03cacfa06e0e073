"""Heavy tails: Debian's packages, classified by their dependencies or by their files.

    python examples/debian.py --root ROOT [--task deps] [--aggr mean max gru lcm] [--parts 1]

``ROOT`` holds ``deps.npz``, ``files.npz`` and the lists of names beside them. In ``deps``, one
graph of 106,411 nodes, a package is classified by whom it names and who names it; the largest
neighbourhood has 37,681 members. In ``files``, 35,135 sets of up to 10,422 tokens, by the parts of
its file names. Packages of one source are in one part of the split, and sets that are the same as
one in training are not asked about. ``commonest`` is what answering the commonest class of training
gets right.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import PNAConv

from lcm_graph.datasets import TokenSets, load_debian_dependencies, load_debian_files
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
)

FEW = 2000  # packages, to see that it runs
SPLIT_SEED = 0  # which sources are trained on and tested, the same in all runs


def split(source: Tensor) -> dict[str, Tensor]:
    """Three in five of the sources to learn from, one in five to choose by, and to test."""
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    sources, mine = source.unique(return_inverse=True)
    fifth = torch.randperm(len(sources), generator=generator)[mine] * 5 // len(sources)
    parts = {"train": fifth >= 2, "valid": fifth == 0, "test": fifth == 1}
    return {name: part.nonzero().flatten() for name, part in parts.items()}


def split_sets(sets: TokenSets) -> dict[str, Tensor]:
    """By sources, without those to choose by and to test that are the same as one in training."""
    parts = split(sets.source)
    contents = [frozenset(some.tolist()) for some in sets.tokens.split(sets.ptr.diff().tolist())]
    known = {contents[number] for number in parts["train"].tolist()}
    is_new = torch.tensor([content not in known for content in contents])
    is_new[parts["train"]] = True
    return {name: part[is_new[part]] for name, part in parts.items()}


def both_ways(data: Data) -> Data:
    """Each edge against its direction too, as an edge of a type of its own."""
    data = data.clone()
    data.edge_index = torch.cat([data.edge_index, data.edge_index.flip(0)], dim=1)
    data.edge_type = torch.cat([data.edge_type, data.edge_type + data.num_edge_types])
    return data


def prepare(
    task: str, root: str, aggr: str, seed: int, hidden: int, layers: int, parts: int, few: bool
) -> tuple[nn.Module, Task, float]:
    """A model, what it is to learn, and how often the commonest class is right."""
    if task == "files":
        sets = load_debian_files(root)
        if few:
            ptr = sets.ptr[: FEW + 1]
            sets = sets._replace(
                ptr=ptr,
                tokens=sets.tokens[: int(ptr[-1])],
                y=sets.y[:FEW],
                source=sets.source[:FEW],
            )
        torch.manual_seed(seed)
        classifier = TokenSetClassifier(aggr, sets.num_tokens, sets.num_classes, hidden)
        chosen = split_sets(sets)
        learned = TokenSetTask(sets, chosen, batch_size=256)
        return classifier, learned, commonest(sets.y, chosen)
    data = load_debian_dependencies(root)
    if few:
        data = data.subgraph(torch.arange(min(FEW, data.num_nodes)))
    data = both_ways(data)
    labelled = (data.y >= 0).nonzero().flatten()
    chosen = {name: labelled[part] for name, part in split(data.source[labelled]).items()}
    torch.manual_seed(seed)
    model = NodeGNN(
        aggr,
        data.num_nodes,
        data.num_edge_types,
        data.num_classes,
        hidden,
        layers,
        degree=PNAConv.get_degree_histogram([data]),
    )
    return model, NodeTask(data, chosen, parts=parts), commonest(data.y, chosen)


def commonest(y: Tensor, chosen: dict[str, Tensor]) -> float:
    """The accuracy of the class that is commonest in training."""
    return float((y[chosen["test"]] == y[chosen["train"]].mode().values).double().mean())


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
    few: bool = False,
) -> dict[str, Any]:
    """One run: accuracy at the best validation epoch."""
    model, learned, constant = prepare(task, root, aggr, seed, hidden, layers, parts, few)
    found = fit_and_test(model, learned, epochs=epochs, lr=lr, seed=seed, device=device)
    return found | {"commonest": constant}


def main() -> None:
    """Compare aggregations."""
    parser = comparison_parser(__doc__, aggr=["mean", "max", "gru", "lcm"], runs=3, epochs=30)
    parser.add_argument("--root", required=True, help="folder of deps.npz, files.npz and lists")
    parser.add_argument("--task", choices=("deps", "files"), default="deps", help="what to learn")
    parser.add_argument("--hidden", type=int, default=32, help="size of states")
    parser.add_argument("--layers", type=int, default=2, help="message-passing layers, for deps")
    parser.add_argument("--parts", type=int, default=1, help="training steps an epoch, for deps")
    parser.add_argument("--lr", type=float, default=1e-2, help="peak learning rate")
    args = parser.parse_args()
    if args.smoke:
        args.runs, args.epochs, args.hidden, args.layers = 1, 1, 4, 1
    names = ("task", "root", "hidden", "layers", "parts", "lr")
    settings = {name: getattr(args, name) for name in names}
    compare(
        train,
        args,
        settings | ({"few": True} if args.smoke else {}),
        COLUMNS | {"commonest": lambda result: result["commonest"]},
        name=f"debian-{args.task}",
    )


if __name__ == "__main__":
    main()
