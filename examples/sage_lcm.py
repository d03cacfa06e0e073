"""Node classification with a GraphSAGE network that aggregates by a learned monoid.

    python examples/sage_lcm.py [--root ROOT]

With ``--root`` it trains on Cora (``ROOT`` holds ``Cora/raw``, Planetoid's files); without, on a
small synthetic graph.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout
from torch_geometric.data import Data
from torch_geometric.nn import SAGEConv

from lcm_graph import LCMAggregation
from lcm_graph.datasets import load_citations


class SAGE(nn.Module):
    """Two layers; the messages of a node's neighbours are a set, folded by ``LCMAggregation``."""

    def __init__(self, in_channels: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.encode = nn.Linear(in_channels, hidden)
        self.convs = nn.ModuleList(
            SAGEConv(hidden, hidden, aggr=LCMAggregation(hidden, hidden, order="random"))
            for _ in range(2)
        )
        self.classify = nn.Linear(hidden, classes)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        x = self.encode(dropout(x, 0.5, self.training)).relu()
        for conv in self.convs:
            x = conv(dropout(x, 0.5, self.training), edge_index).relu()
        out: Tensor = self.classify(x)
        return out


def synthetic_graph(nodes: int = 600, degree: int = 5) -> tuple[Data, dict[str, Tensor]]:
    """Colours as features; a node's class is the most frequent colour among its neighbours."""
    generator = torch.Generator().manual_seed(0)
    source = torch.randint(nodes, (nodes * degree,), generator=generator)
    target = torch.arange(nodes).repeat(degree)
    colour = torch.nn.functional.one_hot(torch.randint(3, (nodes,), generator=generator), 3).float()
    votes = torch.zeros(nodes, 3).index_add_(0, target, colour[source])
    data = Data(x=colour, edge_index=torch.stack([source, target]), y=votes.argmax(dim=1))
    train = nodes * 2 // 3
    return data, {"train": torch.arange(train), "test": torch.arange(train, nodes)}


def main() -> None:
    """Train, and print the accuracy on the test nodes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", help="folder that holds Cora/raw")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--smoke", action="store_true", help="see that it runs: seconds")
    args = parser.parse_args()
    if args.smoke:
        args.epochs = 2
    if args.epochs < 1:
        parser.error(f"--epochs must be at least 1 (got {args.epochs})")
    torch.manual_seed(0)

    try:
        data, split = load_citations("Cora", args.root) if args.root else synthetic_graph()
    except (OSError, ValueError) as error:
        parser.error(str(error))
    model = SAGE(data.x.size(1), 32, int(data.y.max()) + 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    for epoch in range(1, args.epochs + 1):
        model.train()
        optimizer.zero_grad()
        out = model(data.x, data.edge_index)
        loss = cross_entropy(out[split["train"]], data.y[split["train"]])
        loss.backward()
        optimizer.step()
        if epoch % 20 == 0 or epoch == args.epochs:
            model.eval()
            with torch.no_grad():
                right = model(data.x, data.edge_index).argmax(dim=1) == data.y
            accuracy = right[split["test"]].float().mean()
            print(f"epoch {epoch:3d}  loss {loss:.3f}  test accuracy {accuracy:.3f}", flush=True)


if __name__ == "__main__":
    main()
