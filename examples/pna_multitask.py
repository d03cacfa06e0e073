"""The PNA multitask benchmark: three labels a node and three a graph, on small random graphs.

    python examples/pna_multitask.py [--root ROOT] [--aggr sum max pna gru lcm] [--jobs 2]

Train and test graphs are the benchmark's own, if ``ROOT`` holds their file, or drawn by the same
rules; then the model is asked about graphs of up to 100 nodes. What is told is log₁₀ of the mean
squared error, its mean over the six labels, and how it compares with that of the best constants on
larger graphs: infinite where an answer is too large for a number.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch_geometric.data import Data
from torch_geometric.nn import PNAConv

from lcm_graph.datasets import (
    MULTITASK_COUNTS,
    MULTITASK_SIZES,
    load_multitask_graphs,
    multitask_graphs,
)
from lcm_graph.training import (
    COLUMNS,
    LABELS,
    MultitaskGNN,
    MultitaskTask,
    compare,
    comparison_parser,
    fit_and_test,
)

LARGER = (20, 25, 30, 35, 40, 45, 60, 75, 95)  # each and the four sizes after it


def load(
    root: str | None, larger: list[int], graphs_each: int, share: int
) -> dict[str, list[Data]]:
    """Train, valid and test graphs, every ``share``-th of them, and larger ones."""
    if root is None:
        graphs = {
            split: multitask_graphs(sizes, MULTITASK_COUNTS[split] // share, seed)
            for seed, (split, sizes) in enumerate(MULTITASK_SIZES.items())
        }
    else:
        graphs = {split: some[::share] for split, some in load_multitask_graphs(root).items()}
    for size in larger:
        graphs[f"{size}-{size + 4}"] = multitask_graphs(range(size, size + 5), graphs_each, 3)
    return graphs


def train(
    aggr: str,
    seed: int,
    epochs: int,
    device: str,
    root: str | None,
    hidden: int,
    towers: int,
    batch_size: int,
    lr: float,
    larger: list[int],
    graphs_each: int,
    share: int,
) -> dict[str, Any]:
    """One run: errors at the best validation epoch."""
    graphs = load(root, larger, graphs_each, share)
    task = MultitaskTask(graphs, batch_size=batch_size)
    degrees = PNAConv.get_degree_histogram(graphs["train"])
    torch.manual_seed(seed)
    model = MultitaskGNN(aggr, hidden, towers, degree=degrees)
    found = fit_and_test(model, task, epochs=epochs, lr=lr, seed=seed, device=device)
    beyond: dict[str, float | None] = {}
    for split in list(graphs)[3:]:
        ratio = float((task.errors(model, split) / task.constant_errors(split)).log10().mean())
        beyond[split] = ratio if math.isfinite(ratio) else None  # JSON has no word for inf
    test = task.errors(model, "test").log10()
    return found | {"labels": dict(zip(LABELS, test.tolist(), strict=True)), "larger": beyond}


def main() -> None:
    """Compare aggregations."""
    parser = comparison_parser(
        __doc__,
        aggr=["sum", "max", "pna", "gru", "lcm", "lcm-assoc"],
        runs=3,
        epochs=60,
    )
    parser.add_argument("--root", help="folder of pna_multitask_seed1234.npz")
    parser.add_argument("--hidden", type=int, default=32, help="size of node states")
    parser.add_argument("--towers", type=int, default=1, help="layers that share a round's work")
    parser.add_argument("--batch-size", type=int, default=64, help="graphs per step")
    parser.add_argument("--lr", type=float, default=5e-3, help="peak learning rate")
    args = parser.parse_args()
    settings: dict[str, Any] = {
        "root": args.root,
        "hidden": args.hidden,
        "towers": args.towers,
        "batch_size": args.batch_size,
        "lr": args.lr,
        "larger": list(LARGER),
        "graphs_each": 32,
        "share": 1,
    }
    if args.smoke:
        args.runs, args.epochs = 1, 1
        settings |= {"hidden": 4, "larger": [20], "graphs_each": 1, "share": 128}

    def label(name: str) -> Any:
        return lambda result: result["labels"][name]

    def larger(name: str) -> Any:
        def error(result: Any) -> float:
            found = result["larger"][name]
            return math.inf if found is None else float(found)

        return error

    columns = {
        **COLUMNS,
        **{name: label(name) for name in LABELS},
        **{f"{size}-{size + 4}": larger(f"{size}-{size + 4}") for size in settings["larger"]},
    }
    compare(train, args, settings, columns, name="pna_multitask")


if __name__ == "__main__":
    main()
