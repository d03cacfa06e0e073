"""OGB's molecules: layers × aggregations, in the neighbourhood and at the readout.

    python examples/ogb/mol.py --root ROOT [--dataset ogbg-molhiv] [--conv gin] [--aggr sum lcm]

``ROOT`` holds the data set's folder (``ogbg_molhiv``) as OGB ships it; without it, FreeSolv comes
with the package. OGB's conventions: seeds 0, 1, …; the test score at the best validation epoch;
mean and unbiased standard deviation; number of parameters.
"""

from __future__ import annotations

from typing import Any

import torch
from torch_geometric.nn import PNAConv

from lcm_graph.aggregators import AGGREGATIONS
from lcm_graph.datasets import load_molecules
from lcm_graph.training import (
    COLUMNS,
    MOLECULE_CONVS,
    MoleculeGNN,
    MoleculeTask,
    compare,
    comparison_parser,
    fit_and_test,
)


def train(
    aggr: str,
    seed: int,
    epochs: int,
    device: str,
    dataset: str,
    root: str | None,
    conv: str,
    readout: str | None,
    hidden: int,
    layers: int,
    dropout: float,
    batch_size: int,
    lr: float,
) -> dict[str, Any]:
    """One run: OGB's metric at the best validation epoch."""
    molecules = load_molecules(dataset, root)
    torch.manual_seed(seed)
    model = MoleculeGNN(
        aggr,
        hidden,
        layers,
        molecules.num_tasks,
        dropout,
        readout,
        conv,
        PNAConv.get_degree_histogram(molecules.subset("train")),
    )
    task = MoleculeTask(molecules, batch_size=batch_size)
    return fit_and_test(model, task, epochs=epochs, lr=lr, seed=seed, device=device)


def main() -> None:
    """Compare aggregations on one data set."""
    parser = comparison_parser(
        __doc__, aggr=["sum", "pna", "gru", "lcm", "mix"], runs=10, epochs=50
    )
    parser.add_argument("--dataset", default="ogbg-molfreesolv", help="OGB's name")
    parser.add_argument("--root", help="folder that holds the data set's folder")
    parser.add_argument("--conv", default="gin", choices=MOLECULE_CONVS, help="kind of layer")
    parser.add_argument(
        "--readout", choices=AGGREGATIONS, help="of a graph's nodes, if not as the neighbourhood"
    )
    parser.add_argument("--hidden", type=int, default=64, help="size of node states")
    parser.add_argument("--layers", type=int, default=3, help="message-passing layers")
    parser.add_argument("--dropout", type=float, default=0.1, help="after every layer")
    parser.add_argument("--batch-size", type=int, default=64, help="graphs per step")
    parser.add_argument("--lr", type=float, default=3e-3, help="peak learning rate")
    args = parser.parse_args()
    if args.smoke:
        args.runs, args.epochs, args.hidden, args.layers = 1, 1, 8, 1
    names = (
        "dataset",
        "root",
        "conv",
        "readout",
        "hidden",
        "layers",
        "dropout",
        "batch_size",
        "lr",
    )
    compare(
        train,
        args,
        {name: getattr(args, name) for name in names},
        COLUMNS,
        name="-".join(["mol", args.dataset, args.conv, *([args.readout] if args.readout else [])]),
    )


if __name__ == "__main__":
    main()
