"""What attention to some of the keys loses, and what summaries or samples of the rest give back.

    python -m benchmarks.selection [--keys 4096] [--seeds 5] [--smoke]

Keys of 64 planted clusters, and keys without any; 64 queries that share one selection, from 4 of
the clusters ("block"), from all of them ("mixed"; three times as long, "sharp"), or of no cluster
("noise"). Reported is the error relative to the answers of all keys, for each way of choosing a
fraction of the keys, with the rest dropped, summarised (to first and to second order) or, with half
of the fraction chosen and half drawn, sampled. Selectors that look at queries see these, but
"observation" and "blocks", which have seen others like them. Then how far the error of dropping is
from what the identity says of both parts' answers; and how many of the keys that matter most are
found, flat and through coarse clusters, and how many centroids were looked at, for longer contexts.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.measure import RESULTS, environment, print_table, write_json
from lcm_graph.attention import attend
from lcm_graph.attention.selective import (
    BlockBudget,
    KeyIndex,
    centroid_scores,
    hierarchical_clusters,
    hyper_attention,
    observation_scores,
    redundancy_scores,
    selective_attention,
    top_fraction,
    top_tokens,
    truncation,
)
from lcm_graph.training.figures import plot_lines

DOCS = Path(__file__).parent.parent / "docs" / "attention"
D, CLUSTERS, QUERIES = 64, 64, 64
FRACTIONS = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
TAILS = ("drop", "summary", "summary, order 2", "sample")
DATA = ("block", "mixed", "sharp", "noise")
BLOCK = 64


class Case(NamedTuple):
    """A context and queries to it."""

    q: Tensor  # [1, 1, QUERIES, D]
    k: Tensor  # [1, 1, M, D]
    v: Tensor
    earlier: Tensor  # queries like q, [1, 1, QUERIES, D]
    first: KeyIndex  # hierarchical, with summaries of first order
    second: KeyIndex  # the same clusters, with summaries of second order
    wide: KeyIndex  # of first order, in float64
    expected: Tensor


def case(kind: str, keys: int, seed: int) -> Case:
    """Draw one."""
    torch.manual_seed(seed)
    centres, means = torch.randn(CLUSTERS, D), torch.randn(CLUSTERS, D)
    labels = torch.arange(keys) % CLUSTERS
    if kind == "noise":
        k, v, q = torch.randn(keys, D), torch.randn(keys, D), torch.randn(2 * QUERIES, D)
    else:
        k = centres[labels] + 0.5 * torch.randn(keys, D)
        v = means[labels] + 0.5 * torch.randn(keys, D)
        asked = torch.arange(2 * QUERIES) % (4 if kind == "block" else CLUSTERS)
        q = 0.6 * centres[asked] + 0.5 * torch.randn(2 * QUERIES, D)
        q = 3 * q if kind == "sharp" else q
    q, k, v = (t[None, None] for t in (q, k, v))
    q, earlier = q.split(QUERIES, dim=2)
    index = KeyIndex.build(k, v, clusters=0.05, coarse=0.01, seed=seed)
    second = KeyIndex.build(k, v, partition=index.labels, order=2)
    wide = KeyIndex.build(k.double(), v.double(), partition=index.labels)
    return Case(q, k, v, earlier, index, second, wide, attend(q, k, v).out)


def random_scores(one: Case) -> Tensor:
    return torch.rand(one.k.shape[:3])


def oracle_scores(one: Case) -> Tensor:
    """The attention that each key in fact gets, on average."""
    return observation_scores(one.q, one.k, pool=1)


def observed_scores(one: Case) -> Tensor:
    """Of 8 earlier queries, smoothed."""
    return observation_scores(one.earlier[:, :, -8:], one.k)


def squeezed(one: Case, fraction: float) -> Tensor:
    """Whole clusters by their centroids' scores: marks of keys."""
    scores = centroid_scores(one.q, one.first)
    return one.first.tokens(top_fraction(scores, fraction, one.first.summary.size))


def hierarchical(one: Case, fraction: float) -> Tensor:
    """The same, looking into the coarse clusters of twice the fraction."""
    coarse = min(1.0, 2 * fraction)
    kept, _ = hierarchical_clusters(one.q, one.first, fraction, coarse_fraction=coarse)
    return one.first.tokens(kept)


def blocks(one: Case, fraction: float) -> Tensor:
    """Some tokens of each block: those that earlier queries attended to."""
    budget = BlockBudget.of_fraction(fraction, block=BLOCK)
    return budget.tokens(redundancy_scores(one.earlier, one.k))


def by_tokens(score: Callable[[Case], Tensor]) -> Callable[[Case, float], Tensor]:
    """The best keys by a score of their own."""
    return lambda one, fraction: top_tokens(score(one), round(fraction * one.k.size(2)))


SELECTORS: dict[str, Callable[[Case, float], Tensor]] = {
    "clusters": squeezed,
    "hierarchy": hierarchical,
    "observation": by_tokens(observed_scores),
    "blocks": blocks,
    "oracle": by_tokens(oracle_scores),
    "random": by_tokens(random_scores),
}


def errors(one: Case, selector: str, fraction: float) -> dict[str, float]:
    """Relative errors by tail, the identity's, and which part of the keys was kept."""
    kept = SELECTORS[selector](one, fraction)
    half = fraction if fraction == 1 else fraction / 2
    samples = max(1, round((fraction - half) * one.k.size(2)))
    norm = one.expected.norm()

    def off(found: Tensor) -> float:
        return float((found - one.expected).norm() / norm)

    found = {
        "drop": off(selective_attention(one.q, one.first, tokens=kept, tail="drop").out),
        "summary": off(selective_attention(one.q, one.first, tokens=kept).out),
        "summary, order 2": off(selective_attention(one.q, one.second, tokens=kept).out),
        "sample": off(
            selective_attention(
                one.q,
                one.first,
                tokens=SELECTORS[selector](one, half),
                tail="sample",
                samples=samples,
            ).out
        ),
    }
    q, k, v = one.q.double(), one.wide.k, one.wide.v
    dropped = selective_attention(q, one.wide, tokens=kept, tail="drop").out - attend(q, k, v).out
    predicted = truncation(q, k, v, kept).predicted
    found["identity"] = float((predicted - dropped.norm(dim=-1)).abs().max())
    found["kept"] = float(kept.double().mean())
    return found


def hyper_errors(one: Case, fraction: float) -> float:
    """HyperAttention with half of the budget in blocks and half in samples; or all in a block."""
    keys = one.k.size(2)
    half = max(1, round(fraction * keys / 2))
    block, samples = (keys, 0) if fraction == 1 else (half, half)
    found = hyper_attention(one.q, one.k, one.v, block_size=block, samples=samples).out
    return float((found - one.expected).norm() / one.expected.norm())


def recall(keys: int, seed: int) -> dict[str, float]:
    """Of the 1 % of keys with most attention, how many are in a tenth that is kept."""
    one = case("block", keys, seed)
    wanted = top_tokens(oracle_scores(one), max(1, keys // 100))
    flat = squeezed(one, 0.1)
    kept, looked = hierarchical_clusters(one.q, one.first, 0.1, coarse_fraction=0.2)
    deep = one.first.tokens(kept)
    return {
        "flat": float((flat & wanted).sum() / wanted.sum()),
        "hierarchy": float((deep & wanted).sum() / wanted.sum()),
        "centroids, flat": float((one.first.summary.size > 0).sum()),
        "centroids, hierarchy": float(looked.sum()),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.selection",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--keys", type=int, default=4096)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="see that it runs: seconds")
    args = parser.parse_args()
    lengths: tuple[int, ...] = (1024, 4096, 16_384)
    if args.smoke:
        args.keys, args.seeds, lengths = 512, 1, (512,)

    found: dict[str, Any] = {}
    hyper: dict[str, Any] = {}
    with torch.no_grad():
        for kind in DATA:
            cases = [case(kind, args.keys, seed) for seed in range(args.seeds)]
            found[kind], hyper[kind] = {}, {}
            for selector, fraction in itertools.product(SELECTORS, FRACTIONS):
                each = [errors(one, selector, fraction) for one in cases]
                found[kind].setdefault(selector, {})[fraction] = {
                    what: [one[what] for one in each] for what in each[0]
                }
            for fraction in FRACTIONS:
                hyper[kind][fraction] = [hyper_errors(one, fraction) for one in cases]
        recalls = {n: [recall(n, seed) for seed in range(args.seeds)] for n in lengths}

    for kind in DATA:
        rows = []
        for selector, tail in itertools.product(SELECTORS, TAILS):
            cells = (
                f"{statistics.fmean(found[kind][selector][fraction][tail]):.3f}"
                for fraction in FRACTIONS
            )
            rows.append([f"{selector}, {tail}", *cells])
        rows.append(["hyper", *(f"{statistics.fmean(hyper[kind][f]):.3f}" for f in FRACTIONS)])
        print_table([kind, *(f"{fraction:.0%} kept" for fraction in FRACTIONS)], rows)
    identity = max(
        value
        for kind in DATA
        for selector in SELECTORS
        for fraction in FRACTIONS
        for value in found[kind][selector][fraction]["identity"]
    )
    print(f"largest difference from the identity of the error: {identity:.1e}")
    print_table(
        ["keys", *recalls[lengths[0]][0]],
        [
            [f"{n:,}", *(f"{statistics.fmean(one[w] for one in each):.3g}" for w in each[0])]
            for n, each in recalls.items()
        ],
    )
    if args.smoke:
        return
    write_json(
        RESULTS / "selection.json",
        {
            "environment": environment(
                f"python -m benchmarks.selection --keys {args.keys} --seeds {args.seeds}"
            ),
            "settings": {"features": D, "clusters": CLUSTERS, "queries": QUERIES, "block": BLOCK,
                         "summaries": cases[0].first.summary.size.size(-1)},
            "errors": found,
            "hyper": hyper,
            "identity": identity,
            "recall": recalls,
        },
    )  # fmt: skip
    lines = {
        tail: {
            round(100 * fraction): statistics.fmean(found["block"]["clusters"][fraction][tail])
            for fraction in FRACTIONS[:-1]
        }
        for tail in TAILS
    }
    plot_lines(
        DOCS / "selection.png", lines, xlabel="% of the keys kept", ylabel="relative error",
        log_y=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
