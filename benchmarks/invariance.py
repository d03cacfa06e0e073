"""Does a set's answer depend on its batch mates?

    python -m benchmarks.invariance [--channels 16] [--sets 1000]

Random sets of 1 to 50 elements are aggregated one at a time, and all in one batch with a set of
2,000 more. Reported is the largest relative difference ‖together - alone‖ / ‖alone‖ over the sets.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from torch import Tensor
from torch_geometric.nn import aggr as pyg
from torch_geometric.nn.aggr import Aggregation

from benchmarks.measure import RESULTS, environment, print_table, write_json
from lcm_graph import LCMAggregation, RecurrentAggregation

LARGEST = 50
BATCH_MATE = 2000
SEED = 0


def pairs(channels: int) -> dict[str, tuple[Aggregation, Aggregation]]:
    """Ours and PyG's, by name, with the same weights."""
    torch.manual_seed(SEED)
    named = {
        "LCM": (
            LCMAggregation(channels, channels, project=False),
            pyg.LCMAggregation(channels, channels, project=False),
        ),
        "GRU": (
            RecurrentAggregation(channels, channels, cell="gru"),
            pyg.GRUAggregation(channels, channels),
        ),
        "LSTM": (
            RecurrentAggregation(channels, channels, cell="lstm"),
            pyg.LSTMAggregation(channels, channels),
        ),
    }
    for ours, theirs in named.values():
        ours.load_state_dict(theirs.state_dict())
    return named


@torch.no_grad()
def differences(aggregator: Aggregation, sets: list[Tensor], mate: Tensor) -> list[float]:
    """The relative difference of each set's answer, alone and in one batch with all."""
    sizes = torch.tensor([len(s) for s in [*sets, mate]])
    index = torch.arange(len(sizes)).repeat_interleave(sizes)
    together = aggregator(torch.cat([*sets, mate]), index, dim_size=len(sizes))
    alone = torch.cat(
        [aggregator(s, torch.zeros(len(s), dtype=torch.long), dim_size=1) for s in sets]
    )
    relative = (together[:-1] - alone).norm(dim=-1) / alone.norm(dim=-1)
    return [float(value) for value in relative]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.invariance")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--sets", type=int, default=1000)
    args = parser.parse_args()

    generator = torch.Generator().manual_seed(SEED)
    sizes = torch.randint(1, LARGEST + 1, (args.sets,), generator=generator).tolist()
    sets = [torch.randn(size, args.channels, generator=generator) for size in sizes]
    mate = torch.randn(BATCH_MATE, args.channels, generator=generator)

    figures: dict[str, dict[str, dict[str, float]]] = {}
    for name, both in pairs(args.channels).items():
        figures[name] = {}
        for whose, aggregator in zip(("lcm_graph", "PyG"), both, strict=True):
            found = differences(aggregator, sets, mate)
            figures[name][whose] = {"largest": max(found), "median": statistics.median(found)}

    rows = [
        [f"{name}, {whose}", f"{f['largest']:.1e}", f"{f['median']:.1e}"]
        for name, by in figures.items()
        for whose, f in by.items()
    ]
    print_table(["relative difference, alone or together", "largest", "median"], rows)
    result = {
        "environment": environment(
            f"python -m benchmarks.invariance --channels {args.channels} --sets {args.sets}"
        ),
        "settings": {
            "dtype": "float32",
            "channels": args.channels,
            "sets": args.sets,
            "largest": LARGEST,
            "batch_mate": BATCH_MATE,
            "seed": SEED,
        },
        "relative_difference": figures,
    }
    write_json(RESULTS / "invariance.json", result)


if __name__ == "__main__":
    main()
