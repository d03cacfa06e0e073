"""A graph that grows, loses edges and changes: each answer costs the logarithm of a hub.

    python examples/growing_graph.py [--nodes 3000] [--edges-each 4]

A citation graph grows by preferential attachment: a new node points to others, the more likely the
more point to them already; now and then a citation is taken back. Every node's readout of those
that cite it, by a learned monoid, is kept in a tree that is changed in place. At the end, it is
compared with a fold of the whole graph, and so is the time.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor

from lcm_graph import FoldTree, segment_reduce
from lcm_graph.monoids import BinaryGRU

CHANNELS = 32


def attached(targets: list[int], nodes: int, count: int, generator: torch.Generator) -> Tensor:
    """``count`` distinct of the first ``nodes`` nodes, half of the time the target of an edge."""
    chosen: set[int] = set()
    while len(chosen) < min(count, nodes):
        coin, at = torch.rand(2, generator=generator).tolist()
        popular = coin < 0.5 and targets
        chosen.add(targets[int(at * len(targets))] if popular else int(at * nodes))
    return torch.tensor(sorted(chosen))


@torch.no_grad()
def main() -> None:
    """Grow, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=3000)
    parser.add_argument("--edges-each", type=int, default=4)
    parser.add_argument("--smoke", action="store_true", help="see that it runs: seconds")
    args = parser.parse_args()
    if args.smoke:
        args.nodes = 60
    if args.nodes < 2 or args.edges_each < 1:
        parser.error("there must be at least 2 nodes and 1 edge each")
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    monoid = BinaryGRU(CHANNELS)
    features = torch.randn(args.nodes, CHANNELS, generator=generator)

    none = torch.empty(0, dtype=torch.int64)
    tree = FoldTree(monoid, features[:0], none, dim_size=args.nodes)
    source: list[int] = []  # of each edge, by its number in the tree
    targets: list[int] = []
    taken_back = 0
    began = time.perf_counter()
    for node in range(1, args.nodes):
        cited = attached(targets, node, args.edges_each, generator)
        tree.insert(features[node].expand(len(cited), -1), cited)
        source += [node] * len(cited)
        targets += cited.tolist()
        if node % 10 == 0:  # an old citation is taken back
            edge = int(torch.randint(len(source), (), generator=generator))
            if int(tree.index[edge]) >= 0:
                tree.remove(torch.tensor([edge]))
                taken_back += 1
        tree.result(cited)
    seconds = time.perf_counter() - began

    there = (tree.index >= 0).nonzero().flatten()
    order = there[tree.places[there].argsort(stable=True)]  # gaps move no other element
    began = time.perf_counter()
    states = monoid.lift(features[torch.tensor(source)[order]])
    expected = segment_reduce(monoid, states, tree.index[order], dim_size=args.nodes)
    anew = time.perf_counter() - began
    sizes = torch.bincount(tree.index[there], minlength=args.nodes)
    same = tree.places[there].new_zeros(args.nodes)
    same.scatter_reduce_(0, tree.index[there], tree.places[there] + 1, "amax")
    whole = (same == sizes) & (sizes > 0)  # without gaps the trees are those of the fold
    difference = (tree.result() - monoid.lower(expected))[whole].abs().max()
    changes = args.nodes - 1 + taken_back
    hub = int(sizes.max())
    print(f"{tree.num_elements:,} edges, {taken_back} taken back, the largest set {hub}")
    each, once = seconds / changes * 1e3, anew * 1e3
    print(f"a change and its answers {each:.2f} ms, all anew {once:.0f} ms")
    print(f"{int(whole.sum()):,} sets without gaps differ by {float(difference):.1e}")


if __name__ == "__main__":
    main()
