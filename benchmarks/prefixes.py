"""How near a state of fixed size comes to a prefix of many tokens.

    python -m benchmarks.prefixes [--seeds 5] [--smoke]

Attention to m prefix tokens and 32 others, one head of 8 features, normal queries, keys and values;
the error is that of the answers with the prefix as a state, relative to the answers with its
tokens. "ignored" leaves the prefix out. "filled" sums up its tokens' features, "learned" begins
with nothing and is trained on other queries to answer as the tokens do.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import RESULTS, environment, print_table, write_json
from lcm_graph.attention import attend, merge
from lcm_graph.attention.prefixes import PrefixState

D, OTHERS, QUERIES = 8, 32, 256
MAPS: dict[str, dict[str, Any]] = {
    "elu": {"features": "elu"},
    **{f"taylor, degree {g}": {"features": "taylor", "degree": g} for g in (2, 4, 6)},
}
STEPS, LR = 1000, 0.02


def errors(tokens: int, seed: int, steps: int) -> dict[str, float]:
    """Of each way to have the prefix as a state."""
    torch.manual_seed(seed)
    prefix = torch.randn(2, 1, 1, tokens, D)
    q, *others = torch.randn(1, 1, QUERIES, D), *torch.randn(2, 1, 1, OTHERS, D)

    def whole(queries: Tensor) -> Tensor:
        return merge(attend(queries, *prefix), attend(queries, *others)).out

    expected = whole(q)

    def off(found: Tensor) -> float:
        return float((found - expected).norm() / expected.norm())

    own = attend(q, *others)
    found = {"ignored": off(own.out)}
    for name, kwargs in MAPS.items():
        filled = PrefixState(1, D, **kwargs).fill(*prefix[:, 0])
        with torch.no_grad():
            found[f"{name}, filled"] = off(filled(q, own).out)
        learned = PrefixState(1, D, **kwargs)
        optimizer = torch.optim.Adam(learned.parameters(), lr=LR)
        for _ in range(steps):
            fresh = torch.randn(1, 1, QUERIES, D)
            with torch.no_grad():
                wanted, gathered = whole(fresh), attend(fresh, *others)
            loss = (learned(fresh, gathered).out - wanted).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            found[f"{name}, learned"] = off(learned(q, own).out)
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prefixes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="see that it runs: seconds")
    args = parser.parse_args()
    sizes: tuple[int, ...] = (16, 128, 1024)
    steps = STEPS
    if args.smoke:
        sizes, steps, args.seeds = (16,), 2, 1
    found = {m: [errors(m, seed, steps) for seed in range(args.seeds)] for m in sizes}
    names = list(found[sizes[0]][0])
    print_table(
        ["relative error", *(f"{m:,} tokens" for m in sizes)],
        [
            [name, *(f"{statistics.median(one[name] for one in found[m]):.3f}" for m in sizes)]
            for name in names
        ],
    )
    if args.smoke:
        return
    write_json(
        RESULTS / "prefixes.json",
        {
            "environment": environment(f"python -m benchmarks.prefixes --seeds {args.seeds}"),
            "settings": {"features": D, "others": OTHERS, "steps": STEPS, "lr": LR},
            "errors": found,
        },
    )


if __name__ == "__main__":
    main()
