"""How many items a vector of d numbers can tell apart, when any two of them are asked for.

    python -m benchmarks.limit [--dimensions 3 4 5 6 7 8] [--steps 20000] [--smoke]

All pairs of n items are queries, and a summary of a pair is right if the two items that score
highest by their inner products with it are the pair. Items and summaries are trained on these very
queries, so what fails is the summary's size, or training. The critical n is the largest that
gallop and bisection find with all pairs right, at any step of any of the restarts. Summaries of d
numbers:

- ``free``: each pair has a vector of its own (the experiment of the paper)
- ``sum``: the sum of two embeddings
- ``learned``: a learned binary GRU folds embeddings of 32 numbers, of which d are read off
- ``two vectors``: the members' own vectors side by side, 2 d numbers; an item scores by the nearer,
  so that all pairs are right whatever n

Source: Weller et al., "On the Theoretical Limitations of Embedding-Based Retrieval" (2025), section
3; InfoNCE at temperature 0.1, Adam, until 1,000 steps bring no gain. Beside its fit stand vectors
of four numbers that are right for every pair by construction, in float64: what fails in training
is not that there are none.
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import RESULTS, environment, print_table, write_json
from lcm_graph.monoids import BinaryGRU
from lcm_graph.reduce import segment_reduce

TEMPERATURE, LR, WIDTH = 0.1, 0.01, 32
PATIENCE, GAIN = 1000, 1e-5
CHECK = 50  # steps between looks at all pairs
FIT = (-10.5322, 4.0309, 0.0520, 0.0037)  # the paper's cubic, by rising powers of d


class Summaries(nn.Module):
    """Items, and a summary of each of their pairs."""

    def __init__(self, items: int, channels: int) -> None:
        super().__init__()
        self.pairs = torch.combinations(torch.arange(items))
        self.items = nn.Parameter(torch.randn(items, channels))

    def queries(self) -> Tensor:
        """``[pairs, d]``, of any length."""
        raise NotImplementedError

    def forward(self) -> Tensor:
        """Scores of all items for each pair, ``[pairs, items]``."""
        return F.normalize(self.queries(), dim=1) @ F.normalize(self.items, dim=1).T


class Free(Summaries):
    def __init__(self, items: int, channels: int) -> None:
        super().__init__(items, channels)
        self.own = nn.Parameter(torch.randn(len(self.pairs), channels))

    def queries(self) -> Tensor:
        return self.own


class Sum(Summaries):
    def __init__(self, items: int, channels: int) -> None:
        super().__init__(items, channels)
        self.embedded = nn.Parameter(torch.randn(items, channels))

    def queries(self) -> Tensor:
        return self.embedded[self.pairs].sum(1)


class Learned(Summaries):
    def __init__(self, items: int, channels: int) -> None:
        super().__init__(items, channels)
        self.embedded = nn.Parameter(torch.randn(items, WIDTH))
        self.monoid = BinaryGRU(WIDTH)
        self.readout = nn.Linear(WIDTH, channels)

    def queries(self) -> Tensor:
        members = self.monoid.lift(self.embedded[self.pairs.flatten()])
        ptr = 2 * torch.arange(len(self.pairs) + 1)
        folded = self.monoid.lower(segment_reduce(self.monoid, members, ptr=ptr))
        readout: Tensor = self.readout(folded)
        return readout


class TwoVectors(Summaries):
    """The members' own vectors, which are nearest to themselves: right from the start."""

    def forward(self) -> Tensor:
        items = F.normalize(self.items, dim=1)
        return (items[self.pairs] @ items.T).amax(1)


SUMMARIES: dict[str, type[Summaries]] = {
    "free": Free,
    "sum": Sum,
    "learned": Learned,
    "two vectors": TwoVectors,
}


def all_right(scores: Tensor, pairs: Tensor) -> bool:
    """Whether both members of each pair score above all other items."""
    mine = scores.gather(1, pairs).amin(1)
    others = scores.scatter(1, pairs, -torch.inf).amax(1)
    return bool((mine > others).all())


def trained(kind: str, items: int, channels: int, steps: int, seed: int) -> bool:
    """Whether one training comes to have all pairs right."""
    torch.manual_seed(seed)
    model = SUMMARIES[kind](items, channels)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    best, since = float("inf"), 0
    for step in range(steps):
        scores = model()
        loss = -(scores / TEMPERATURE).log_softmax(1).gather(1, model.pairs).mean()
        if step % CHECK == 0 and all_right(scores.detach(), model.pairs):
            return True
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        value = float(loss.detach())
        best, since = (value, 0) if value < best - GAIN else (best, since + 1)
        if since >= PATIENCE:
            break
    with torch.no_grad():
        return all_right(model(), model.pairs)


def critical(kind: str, channels: int, steps: int, restarts: int, most: int) -> dict[str, Any]:
    """The largest number of items that is learned, by gallop and bisection; ``most`` is the end."""
    tried: dict[int, bool] = {}

    def solved(items: int) -> bool:
        if items not in tried:
            tried[items] = any(
                trained(kind, items, channels, steps, seed) for seed in range(restarts)
            )
        return tried[items]

    low, high = 2, 4  # two items are always right
    while high <= most and solved(high):
        low, high = high, 2 * high
    if high > most:
        high = most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if solved(middle) else (low, middle)
    return {"critical": low, "most": most, "tried": {str(n): tried[n] for n in sorted(tried)}}


def constructed(items: int, dtype: torch.dtype) -> bool:
    """Whether four numbers are right for all pairs: items on the trigonometric moment curve.

    A pair at angles a and b asks for the coefficients of -(1 - cos(t - a)) (1 - cos(t - b)) in
    cos t, sin t, cos 2t and sin 2t, which is 0 at a and at b and negative elsewhere.
    """
    t = 2 * torch.pi * torch.arange(items, dtype=dtype) / items
    curve = torch.stack([t.cos(), t.sin(), (2 * t).cos(), (2 * t).sin()], 1) / 2**0.5
    pairs = torch.combinations(torch.arange(items))
    a, b = t[pairs].unbind(1)
    query = torch.stack(
        [a.cos() + b.cos(), a.sin() + b.sin(), -(a + b).cos() / 2, -(a + b).sin() / 2], 1
    )
    return all_right(F.normalize(query, dim=1) @ curve.T, pairs)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.limit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dimensions", type=int, nargs="+", default=[3, 4, 5, 6, 7, 8])
    parser.add_argument("--steps", type=int, default=20_000, help="of a training, at most")
    parser.add_argument("--restarts", type=int, default=2, help="trainings before n counts as lost")
    parser.add_argument("--most", type=int, default=64, help="items at which the search ends")
    parser.add_argument("--smoke", action="store_true", help="see that it runs: seconds")
    args = parser.parse_args()
    sizes = [100, 200, 500]
    if args.smoke:
        args.dimensions, args.steps, args.restarts, args.most, sizes = [3], 200, 1, 8, [20]
    torch.set_num_threads(1)

    found: dict[str, dict[int, Any]] = {kind: {} for kind in SUMMARIES}
    for channels, kind in itertools.product(args.dimensions, SUMMARIES):
        found[kind][channels] = critical(kind, channels, args.steps, args.restarts, args.most)
        print(f"d = {channels}, {kind}: {found[kind][channels]['critical']}", flush=True)
    exact = {
        str(n): {
            str(dtype).removeprefix("torch."): constructed(n, dtype)
            for dtype in (torch.float32, torch.float64)
        }
        for n in sizes
    }

    fit = {d: sum(c * d**power for power, c in enumerate(FIT)) for d in args.dimensions}
    print_table(
        ["critical n", *(f"d = {d}" for d in args.dimensions)],
        [
            *(
                [kind, *(str(each[d]["critical"]) for d in args.dimensions)]
                for kind, each in found.items()
            ),
            ["the paper's fit", *(f"{fit[d]:.1f}" for d in args.dimensions)],
        ],
    )
    print_table(
        ["by construction, d = 4", "float32", "float64"],
        [[f"{n} items", str(one["float32"]), str(one["float64"])] for n, one in exact.items()],
    )
    if args.smoke:
        return
    write_json(
        RESULTS / "limit.json",
        {
            "environment": environment(
                f"python -m benchmarks.limit --dimensions {' '.join(map(str, args.dimensions))} "
                f"--steps {args.steps} --restarts {args.restarts} --most {args.most}"
            ),
            "settings": {"temperature": TEMPERATURE, "lr": LR, "width": WIDTH},
            "critical": found,
            "fit": fit,
            "constructed": exact,
        },
    )


if __name__ == "__main__":
    main()
