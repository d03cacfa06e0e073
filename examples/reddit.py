"""Graphs of up to 3,782 nodes, read out: discussions of REDDIT-BINARY, by ten folds.

    python examples/reddit.py --root ROOT [--aggr sum mean gru lcm] [--dataset REDDIT-BINARY]

``ROOT`` holds ``REDDIT-BINARY.npz``. The layers are the same, and sum; what differs is the readout.
Fold f is tested, fold f + 1 chooses the epoch, the others are learned from: runs are folds.
"""

from __future__ import annotations

from typing import Any

import torch
from torch_geometric.data import Data

from lcm_graph.datasets import FOLDS, load_tu_graphs
from lcm_graph.training import (
    COLUMNS,
    GraphClassifier,
    GraphTask,
    compare,
    comparison_parser,
    fit_and_test,
)


def of_fold(graphs: list[Data], fold: int) -> list[Data]:
    """Those of one fold."""
    return [graph for graph in graphs if graph.fold == fold]


def split_fold(graphs: list[Data], fold: int) -> dict[str, list[Data]]:
    """Fold ``fold`` to test, the one after it to choose by, the others to learn from."""
    valid = (fold + 1) % FOLDS
    return {
        "train": [graph for graph in graphs if graph.fold not in (fold, valid)],
        "valid": of_fold(graphs, valid),
        "test": of_fold(graphs, fold),
    }


def train(
    aggr: str,
    seed: int,
    epochs: int,
    device: str,
    dataset: str,
    root: str,
    hidden: int,
    layers: int,
    batch_size: int,
    lr: float,
    few: bool = False,
) -> dict[str, Any]:
    """One fold: accuracy at the best validation epoch."""
    graphs = load_tu_graphs(dataset, root)
    if few:  # some of each fold
        graphs = [graph for fold in range(FOLDS) for graph in of_fold(graphs, fold)[:8]]
    split = split_fold(graphs, seed % FOLDS)
    torch.manual_seed(seed)
    classes = 1 + max(int(graph.y) for graph in graphs)
    model = GraphClassifier(aggr, classes, hidden, layers)
    task = GraphTask(split, batch_size=batch_size)
    return fit_and_test(model, task, epochs=epochs, lr=lr, seed=seed, device=device)


def main() -> None:
    """Compare readouts."""
    parser = comparison_parser(__doc__, aggr=["sum", "mean", "gru", "lcm"], runs=FOLDS, epochs=20)
    parser.add_argument("--root", required=True, help="folder of the data set's archive")
    parser.add_argument("--dataset", default="REDDIT-BINARY", help="name of the archive")
    parser.add_argument("--hidden", type=int, default=32, help="size of node states")
    parser.add_argument("--layers", type=int, default=3, help="message-passing layers")
    parser.add_argument("--batch-size", type=int, default=32, help="graphs per step")
    parser.add_argument("--lr", type=float, default=5e-3, help="peak learning rate")
    args = parser.parse_args()
    if args.smoke:
        args.runs, args.epochs, args.hidden, args.layers = 1, 1, 4, 1
    names = ("dataset", "root", "hidden", "layers", "batch_size", "lr")
    settings = {name: getattr(args, name) for name in names}
    compare(
        train,
        args,
        settings | ({"few": True} if args.smoke else {}),
        COLUMNS,
        name=f"readouts-{args.dataset}",
    )


if __name__ == "__main__":
    main()
