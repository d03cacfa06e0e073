"""Changes of single edges against folding a whole graph anew.

    python -m benchmarks.dynamic_graph --root DATA [--changes 100000] [--channels 16]

The graph is Debian's (``debian_graph/deps.npz``), a set the edges that point to a package. A third
of the changes put an edge in, a third change the features of one, a third take one out; where, is
drawn among the edges, so that hubs change most. After each the set that changed answers. Times are
of one run: the fold of all sets anew stands between stretches of changes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import debian_in_neighbours
from benchmarks.measure import RESULTS, environment, print_table, write_json
from lcm_graph.monoids import BinaryGRU, Max, Monoid, Sum
from lcm_graph.reduce import FoldPlan, FoldTree, segment_reduce

SEED = 0
STRETCHES = 10
MONOIDS: dict[str, Callable[[int], Monoid]] = {"BinaryGRU": BinaryGRU, "Sum": Sum, "Max": Max}


class Graph:
    """Edges that come, change and go: their features by number, and which are there."""

    def __init__(self, tree: FoldTree, x: Tensor, changes: int, generator: torch.Generator) -> None:
        self.tree, self.generator = tree, generator
        self.x = torch.cat([x, x.new_zeros(changes, x.size(1))])
        self.index = tree.index
        self.index = torch.cat([self.index, self.index.new_zeros(changes)])
        self.there = list(range(x.size(0)))

    def change(self, kind: int) -> None:
        """Put in (0), change (1) or take out (2) an edge, and ask its set."""
        at = int(torch.randint(len(self.there), (), generator=self.generator))
        number = torch.tensor([self.there[at]])
        own = self.index[number]
        if kind == 2:
            self.tree.remove(number)
            self.there[at] = self.there[-1]
            self.there.pop()
        else:
            features = torch.randn(1, self.x.size(1), generator=self.generator)
            if kind == 0:
                number = self.tree.insert(features, own)
                self.index[number] = own
                self.there.append(int(number))
            else:
                self.tree.change(number, features)
            self.x[number] = features
        self.tree.result(own)

    def largest_difference(self) -> float:
        """Of the tree to a fold of all that is there, relative to the largest answer."""
        tree, monoid = self.tree, self.tree.monoid
        there = torch.tensor(self.there)
        sets, places = tree.index[there], tree.places[there]
        used = torch.zeros(tree.num_sets, dtype=torch.int64)
        used = used.scatter_reduce(0, sets, places + 1, "amax")
        starts = used.cumsum(0) - used
        states = monoid.place(monoid.lift(self.x[there]), starts[sets] + places, int(used.sum()))
        index = torch.arange(tree.num_sets).repeat_interleave(used)
        expected = monoid.lower(segment_reduce(monoid, states, index, dim_size=tree.num_sets))
        return float((tree.result() - expected).abs().max() / expected.abs().max())


@torch.no_grad()
def measured(name: str, root: Path, channels: int, changes: int) -> dict[str, Any]:
    """Seconds of a change and of a fold anew, and the largest difference at the end."""
    torch.manual_seed(SEED)
    case = debian_in_neighbours(root)
    monoid = MONOIDS[name](channels).eval()
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(case.num_elements, channels, generator=generator)
    began = time.perf_counter()
    tree = FoldTree(monoid, x, case.index, dim_size=case.num_sets)
    building = time.perf_counter() - began
    plan = FoldPlan.from_index(case.index, case.num_sets).prepared()
    graph = Graph(tree, x, changes, generator)
    of_changes, anew = [], []
    each = changes // STRETCHES
    for _ in range(STRETCHES):
        began = time.perf_counter()
        for number in range(each):
            graph.change(number % 3)
        of_changes.append((time.perf_counter() - began) / each)
        began = time.perf_counter()
        segment_reduce(monoid, monoid.lift(x), plan=plan)
        anew.append(time.perf_counter() - began)
    return {
        "description": case.description,
        "changes": each * STRETCHES,
        "building_seconds": building,
        "change_seconds": statistics.median(of_changes),
        "anew_seconds": statistics.median(anew),
        "times_faster": statistics.median(anew) / statistics.median(of_changes),
        "largest_difference": graph.largest_difference(),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dynamic_graph")
    parser.add_argument("--root", type=Path, required=True, help="folder of debian_graph")
    parser.add_argument("--changes", type=int, default=100_000)
    parser.add_argument("--channels", type=int, default=16)
    args = parser.parse_args()
    if args.changes < STRETCHES:
        raise SystemExit(f"--changes must be at least {STRETCHES} (got {args.changes})")
    found = {name: measured(name, args.root, args.channels, args.changes) for name in MONOIDS}
    print_table(
        ["", "changes", "a change", "anew", "times faster", "largest difference"],
        [
            [
                name,
                f"{one['changes']:,}",
                f"{one['change_seconds'] * 1e3:.2f} ms",
                f"{one['anew_seconds'] * 1e3:,.0f} ms",
                f"{one['times_faster']:,.0f}",
                f"{one['largest_difference']:.0e}",
            ]
            for name, one in found.items()
        ],
    )
    result = {
        "environment": environment(
            f"python -m benchmarks.dynamic_graph --root DATA --changes {args.changes} "
            f"--channels {args.channels}"
        ),
        "settings": {"channels": args.channels, "seed": SEED, "stretches": STRETCHES},
        "monoids": found,
    }
    write_json(RESULTS / "dynamic_graph.json", result)


if __name__ == "__main__":
    main()
