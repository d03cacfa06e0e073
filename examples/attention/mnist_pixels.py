"""Digits as sets of pixels: attention to sets, beside PyG's Set Transformer and plain folds.

    python examples/attention/mnist_pixels.py --root ROOT [--aggr pyg transformer pma]

``ROOT`` holds MNIST's four idx files. A picture is the set of its bright pixels, about a hundred
points with two coordinates and a brightness; what differs is how the set is pooled. ``pyg`` is
PyG's SetTransformerAggregation, which pads; ``transformer`` is ours, with its parameters and
numbers; ``induced`` attends in linear time; ``pma``, ``perceiver`` and ``slots`` are exact when a
set comes in chunks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import aggr as pyg
from torch_geometric.nn.aggr import Aggregation

from lcm_graph.aggregators import AGGREGATIONS, aggregation_by_name
from lcm_graph.attention.sets import (
    PerceiverAggregation,
    PMAAggregation,
    SetTransformerAggregation,
    SlotAggregation,
)
from lcm_graph.datasets import load_mnist
from lcm_graph.training import COLUMNS, GraphTask, compare, comparison_parser, fit_and_test

HEADS, SEEDS = 4, 4
BRIGHT = 64  # of 255
POOLINGS: dict[str, Callable[[int], Aggregation]] = {
    "pyg": lambda c: pyg.SetTransformerAggregation(c, num_seed_points=SEEDS, heads=HEADS),
    "transformer": lambda c: SetTransformerAggregation(c, num_seed_points=SEEDS, heads=HEADS),
    "induced": lambda c: SetTransformerAggregation(
        c, num_seed_points=SEEDS, heads=HEADS, num_induced_points=16
    ),
    "pma": lambda c: PMAAggregation(c, num_seed_points=SEEDS, heads=HEADS),
    "perceiver": lambda c: PerceiverAggregation(c, num_latents=SEEDS, heads=HEADS),
    "slots": lambda c: SlotAggregation(c, slots=SEEDS, heads=HEADS),
}


class PixelSets(nn.Module):
    """Encode each pixel, pool the set, decode."""

    def __init__(self, pooling: str, hidden: int) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(3, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        if pooling in POOLINGS:
            self.pool = POOLINGS[pooling](hidden)
        else:
            self.pool = aggregation_by_name(pooling, hidden, hidden)
        self.decode = nn.Sequential(nn.LazyLinear(hidden), nn.GELU(), nn.Linear(hidden, 10))
        with torch.no_grad():  # learns how wide a pooled set is
            zeros = torch.zeros(2, dtype=torch.long)
            self.decode(self.pool(torch.zeros(2, hidden), zeros, dim_size=1))

    def forward(self, batch: Any) -> Tensor:
        """A PyG ``Batch`` of pixels -> ``[pictures, 10]``."""
        out: Tensor = self.decode(
            self.pool(self.encode(batch.x), batch.batch, dim_size=batch.num_graphs)
        )
        return out


def load_pixels(root: str, split: str, count: int) -> list[Data]:
    """The first pictures of a split, as sets."""
    pictures, labels = load_mnist(root, split)
    sets = []
    for picture, label in zip(pictures[:count], labels[:count], strict=True):
        brightness = torch.tensor(picture).view(28, 28)
        rows, columns = (brightness >= BRIGHT).nonzero(as_tuple=True)
        points = torch.stack([rows / 14 - 1, columns / 14 - 1, brightness[rows, columns] / 255], 1)
        sets.append(Data(x=points, y=torch.tensor([int(label)]), num_nodes=len(points)))
    return sets


def train(
    aggr: str,
    seed: int,
    epochs: int,
    device: str,
    root: str,
    pictures: int,
    hidden: int,
    batch_size: int,
    lr: float,
) -> dict[str, Any]:
    """One run: accuracy at the best validation epoch."""
    known = load_pixels(root, "train", pictures + pictures // 6)
    test = load_pixels(root, "test", pictures // 3)
    torch.manual_seed(seed)
    model = PixelSets(aggr, hidden)
    split = {"train": known[:pictures], "valid": known[pictures:], "test": test}
    task = GraphTask(split, batch_size=batch_size)
    return fit_and_test(model, task, epochs=epochs, lr=lr, seed=seed, device=device)


def main() -> None:
    """Compare poolings."""
    parser = comparison_parser(
        __doc__,
        aggr=[*POOLINGS, "sum", "lcm"],
        runs=3,
        epochs=10,
        known=[*POOLINGS, *(name for name in AGGREGATIONS if name not in POOLINGS)],
    )
    parser.add_argument("--root", required=True, help="folder of MNIST's files")
    parser.add_argument("--pictures", type=int, default=6000, help="training pictures")
    parser.add_argument("--hidden", type=int, default=64, help="features of an element")
    parser.add_argument("--batch-size", type=int, default=64, help="pictures per step")
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate")
    args = parser.parse_args()
    if args.smoke:
        args.runs, args.epochs, args.pictures, args.hidden = 1, 1, 12, 8
    names = ("root", "pictures", "hidden", "batch_size", "lr")
    compare(
        train,
        args,
        {name: getattr(args, name) for name in names},
        COLUMNS,
        name="mnist-pixels",
    )


if __name__ == "__main__":
    main()
