"""Papers, classified by what they say and whom they cite: GraphSAGE layers × our aggregations.

    python examples/ogb/node.py --root ROOT [--dataset ogbn-arxiv] [--aggr mean lcm] [--parts 4]

``ROOT`` holds ``ogbn_arxiv`` as OGB ships it, or ``Cora/raw`` (``CiteSeer``, ``PubMed``) with
Planetoid's files. OGB's conventions: seeds 0, 1, …; the test accuracy at the best validation epoch;
mean and unbiased standard deviation; number of parameters.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch_geometric.nn import PNAConv, SAGEConv

from lcm_graph.aggregators import aggregation_by_name
from lcm_graph.datasets import CITATIONS, load_citations
from lcm_graph.training import (
    COLUMNS,
    NodeTask,
    compare,
    comparison_parser,
    fit_and_test,
)


class SAGE(nn.Module):
    """GraphSAGE (Hamilton et al. 2017), with LayerNorm and dropout, of any aggregation."""

    def __init__(
        self,
        aggr: str,
        in_channels: int,
        hidden: int,
        num_layers: int,
        num_classes: int,
        dropout: float,
        degrees: Tensor,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.encode = nn.Linear(in_channels, hidden)
        self.convs = nn.ModuleList()
        for _ in range(num_layers):
            aggregation = aggregation_by_name(aggr, hidden, hidden, degree=degrees)
            conv = SAGEConv(hidden, hidden, aggr=aggregation)
            conv.lin_l = nn.Linear(int(aggregation.out_channels), hidden)  # wider for "pna"
            self.convs.append(conv)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(num_layers))
        self.classify = nn.Linear(hidden, num_classes)

    def forward(self, data: Any) -> Tensor:
        """A graph with ``x [N, in_channels]`` and ``edge_index`` -> ``[N, num_classes]``."""
        x = self.encode(dropout(data.x, self.dropout, self.training)).relu()
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(dropout(x, self.dropout, self.training), data.edge_index)).relu()
        out: Tensor = self.classify(dropout(x, self.dropout, self.training))
        return out


def train(
    aggr: str,
    seed: int,
    epochs: int,
    device: str,
    dataset: str,
    root: str,
    hidden: int,
    layers: int,
    dropout: float,
    parts: int,
    lr: float,
) -> dict[str, Any]:
    """One run: accuracy at the best validation epoch."""
    data, split = load_citations(dataset, root)
    degrees = PNAConv.get_degree_histogram([data])
    num_classes = int(data.y.max()) + 1
    torch.manual_seed(seed)
    model = SAGE(aggr, data.num_features, hidden, layers, num_classes, dropout, degrees)
    task = NodeTask(data, split, parts=parts)
    return fit_and_test(model, task, epochs=epochs, lr=lr, seed=seed, device=device)


def main() -> None:
    """Compare aggregations on one graph."""
    aggr = ["mean", "max", "pna", "gru", "lcm"]
    parser = comparison_parser(__doc__, aggr=aggr, runs=10, epochs=60)
    parser.add_argument("--dataset", default="Cora", choices=CITATIONS, help="the graph")
    parser.add_argument("--root", required=True, help="folder that holds the graph's folder")
    parser.add_argument("--hidden", type=int, default=64, help="size of node states")
    parser.add_argument("--layers", type=int, default=2, help="message-passing layers")
    parser.add_argument("--dropout", type=float, default=0.5, help="before every layer")
    parser.add_argument("--parts", type=int, default=1, help="training steps an epoch")
    parser.add_argument("--lr", type=float, default=1e-2, help="peak learning rate")
    args = parser.parse_args()
    if args.smoke:
        args.runs, args.epochs, args.hidden, args.layers = 1, 1, 8, 1
    names = ("dataset", "root", "hidden", "layers", "dropout", "parts", "lr")
    compare(
        train,
        args,
        {name: getattr(args, name) for name in names},
        COLUMNS,
        name=f"node-{args.dataset}",
    )


if __name__ == "__main__":
    main()
