"""Random graphs of ten families, as the PNA multitask benchmark draws them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lcm_graph.datasets.graphs.graph_packages import import_networkx

Adjacency = NDArray[np.bool_]  # [N, N], symmetric, without loops

FAMILIES: dict[str, float] = {
    "erdos_renyi": 0.2,
    "barabasi_albert": 0.2,
    "grid": 0.05,
    "caveman": 0.05,
    "tree": 0.15,
    "ladder": 0.05,
    "line": 0.05,
    "star": 0.05,
    "caterpillar": 0.1,
    "lobster": 0.1,
}
"""Families of graphs and the probability of each in the benchmark's mixture."""

KEPT = 0.9
_TRIES = 1000


def random_graph(num_nodes: int, rng: np.random.Generator, family: str | None = None) -> Adjacency:
    """One graph without isolated nodes: of a family, its nodes shuffled, some edges toggled.

    A graph with isolated nodes is drawn again, of the same family.

    Args:
        num_nodes: at least 4.
        rng: where all randomness comes from.
        family: one of :data:`FAMILIES`; drawn with their probabilities if None.

    Returns:
        Its adjacency matrix, bool ``[num_nodes, num_nodes]``, symmetric and without loops.

    Raises:
        ValueError: fewer than 4 nodes, or no such family.
        ImportError: networkx is not installed.
        RuntimeError: isolated nodes again and again.

    Source: Corso et al., "Principal Neighbourhood Aggregation for Graph Nets" (2020), appendix E.1,
    and what their generator does besides.
    """
    if num_nodes < 4:
        raise ValueError(f"num_nodes must be at least 4 (got {num_nodes})")
    if family is None:
        family = str(rng.choice(list(FAMILIES), p=list(FAMILIES.values())))
    if family not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)} (got {family!r})")
    for _ in range(_TRIES):
        graph = _DRAW[family](num_nodes, rng)
        if graph is None:
            continue
        order = rng.permutation(num_nodes)
        toggled = toggle_edges(import_networkx().to_numpy_array(graph)[order][:, order] > 0, rng)
        if toggled.any(axis=0).all():
            return toggled
    raise RuntimeError(
        f"{_TRIES} graphs of family {family!r} with {num_nodes} nodes all had isolated nodes"
    )


def toggle_edges(adjacency: Adjacency, rng: np.random.Generator) -> Adjacency:
    """Remove some edges and add some, independently of each other.

    With e edges and r pairs without one, e ≤ r, an edge stays if a random number is below 0.9, and
    one appears if it is below 0.1 e / r; with e > r, below 0.9 + 0.1 (e - r) / e and 0.1. The
    random number is the *sum of two* that are uniform in [0, 0.5]: so it is in the benchmark's
    generator, where it makes the noise symmetric. Hence an edge stays with probability 0.98, and
    fewer appear than disappear, other than the benchmark's text has it.

    Args:
        adjacency: bool ``[N, N]``, symmetric and without loops.
        rng: where all randomness comes from.
    """
    n = len(adjacency)
    edges = int(adjacency.sum()) // 2
    others = n * (n - 1) // 2 - edges
    if edges <= others:
        stays, appears = KEPT, (1 - KEPT) * edges / others
    else:
        stays, appears = KEPT + (1 - KEPT) * (edges - others) / edges, 1 - KEPT
    noise = rng.uniform(0.0, 0.5, size=(n, n))
    noise += noise.T.copy()
    toggled = np.where(adjacency, noise < stays, noise < appears)
    np.fill_diagonal(toggled, False)
    return toggled


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def _erdos_renyi(n: int, rng: np.random.Generator) -> Any:
    return import_networkx().fast_gnp_random_graph(n, rng.random(), seed=_seed(rng))


def _barabasi_albert(n: int, rng: np.random.Generator) -> Any:
    degree = int(rng.random() * (n - 1)) + 1
    return import_networkx().barabasi_albert_graph(n, degree, seed=_seed(rng))


def _grid(n: int, rng: np.random.Generator) -> Any:
    rows = _divisor_near_root(n)
    return import_networkx().grid_2d_graph(rows, n // rows)


def _caveman(n: int, rng: np.random.Generator) -> Any:
    """Cliques that nothing joins; a prime number of nodes makes one clique."""
    caves = _divisor_near_root(n)
    return import_networkx().caveman_graph(caves, n // caves)


def _tree(n: int, rng: np.random.Generator) -> Any:
    """A tree whose degrees follow a power law; None where none was found."""
    nx = import_networkx()
    try:
        return nx.random_powerlaw_tree(n, seed=_seed(rng), tries=10_000)
    except nx.NetworkXError:
        return None


def _ladder(n: int, rng: np.random.Generator) -> Any:
    """Two rows, joined pairwise; with an odd number, one node more at the first."""
    graph = import_networkx().ladder_graph(n // 2)
    if n % 2:
        graph.add_edge(0, n - 1)
    return graph


def _line(n: int, rng: np.random.Generator) -> Any:
    return import_networkx().path_graph(n)


def _star(n: int, rng: np.random.Generator) -> Any:
    return import_networkx().star_graph(n - 1)


def _caterpillar(n: int, rng: np.random.Generator) -> Any:
    """A path of 1 to n - 1 nodes, and the others each at some node of it."""
    spine = int(rng.integers(1, n))
    graph = import_networkx().path_graph(spine)
    graph.add_edges_from((node, int(rng.integers(spine))) for node in range(spine, n))
    return graph


def _lobster(n: int, rng: np.random.Generator) -> Any:
    """A path, nodes at nodes of it, and the others each at one of those."""
    spine = int(rng.integers(1, n))
    legs = int(rng.integers(spine + 1, n + 1))
    graph = import_networkx().path_graph(spine)
    graph.add_edges_from((node, int(rng.integers(spine))) for node in range(spine, legs))
    graph.add_edges_from((node, int(rng.integers(spine, legs))) for node in range(legs, n))
    return graph


def _divisor_near_root(n: int) -> int:
    """The largest divisor of ``n`` up to its square root."""
    return max(divisor for divisor in range(1, math.isqrt(n) + 1) if n % divisor == 0)


_DRAW: dict[str, Callable[[int, np.random.Generator], Any]] = {
    "erdos_renyi": _erdos_renyi,
    "barabasi_albert": _barabasi_albert,
    "grid": _grid,
    "caveman": _caveman,
    "tree": _tree,
    "ladder": _ladder,
    "line": _line,
    "star": _star,
    "caterpillar": _caterpillar,
    "lobster": _lobster,
}
