"""The sum, sum modulo 10, or second smallest of pictured digits, on sets of any size.

    python examples/mnist_sets.py --root ROOT [--function sum] [--aggr sum max mix]

``ROOT`` holds MNIST's four idx files. Trained on sets of up to 10 pictures, tested on sets of up to
200 pictures that training never showed.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch_geometric.nn.aggr import Aggregation

from lcm_graph.aggregators import AGGREGATIONS, aggregation_by_name
from lcm_graph.datasets import MNIST_FUNCTIONS, MNISTSets, best_constant
from lcm_graph.training import SetTask, fit, set_accuracy

FEATURES = 32  # of a picture


class PictureSets(nn.Module):
    """Encode each picture, fold the set, decode."""

    def __init__(self, aggr: Aggregation, pooled: int, outputs: int) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Linear(784, 256), nn.GELU(), nn.Linear(256, FEATURES), nn.Sigmoid()
        )
        self.aggr = aggr
        self.decode = nn.Sequential(nn.Linear(pooled, 64), nn.GELU(), nn.Linear(64, outputs))

    def forward(self, x: Tensor, ptr: Tensor) -> Tensor:
        """Pictures ``[n, 784]`` in sets ``ptr [S + 1]`` -> ``[S, outputs]``."""
        out: Tensor = self.decode(self.aggr(self.encode(x), ptr=ptr))
        return out


def main() -> None:
    """Train each aggregation, and print its accuracy by set size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True, help="folder of MNIST's files")
    parser.add_argument("--function", choices=MNIST_FUNCTIONS, default="sum")
    parser.add_argument("--aggr", nargs="+", default=["sum", "max", "mix"], choices=AGGREGATIONS)
    parser.add_argument("--sets", type=int, default=20_000, help="training sets")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--smoke", action="store_true", help="a few small sets, one epoch")
    args = parser.parse_args()
    count, epochs, tested = (64, 1, 8) if args.smoke else (args.sets, args.epochs, 500)

    train = MNISTSets(args.root, args.function, count, 2, 10)
    valid = MNISTSets(args.root, args.function, tested, 20, 20, seed=1)
    tests = [
        MNISTSets(args.root, args.function, tested, size, size, split="test", seed=2)
        for size in (10, 20, 50, 200)
    ]
    print("set size      " + "".join(f"{int(sets.ptr[1]):8d}" for sets in tests))
    for name in args.aggr:
        torch.manual_seed(0)
        aggr = aggregation_by_name(name, FEATURES, FEATURES)
        model = PictureSets(aggr, aggr.out_channels, train.function.num_outputs(train.bits))
        task = SetTask(train, valid, batch_size=64)
        fit(model, task, epochs=epochs, lr=2e-3, schedule="one_cycle", clip_norm=1.0, keep="last")
        row = "".join(f"{set_accuracy(model, sets):8.3f}" for sets in tests)
        print(f"{name:14}{row}", flush=True)
    answer = train.function.answer
    constant = "".join(f"{best_constant(sets.labels, answer):8.3f}" for sets in tests)
    print(f"best constant {constant}")


if __name__ == "__main__":
    main()
