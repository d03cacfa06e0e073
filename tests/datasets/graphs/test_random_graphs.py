"""The families of random graphs, and the edges toggled in them."""

import math

import numpy as np
import pytest

from lcm_graph.datasets import FAMILIES, random_graph
from lcm_graph.datasets.graphs.random_graphs import _DRAW, toggle_edges

networkx = pytest.importorskip("networkx", reason="the extra 'graphs' is not installed")

SIZES = [4, 5, 15, 16, 17, 25]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("family", FAMILIES)
def test_simple_graphs_without_isolated_nodes(family, size):
    adjacency = random_graph(size, np.random.default_rng(1), family)
    assert adjacency.shape == (size, size) and adjacency.dtype == bool
    assert np.array_equal(adjacency, adjacency.T)
    assert not adjacency.diagonal().any()
    assert adjacency.any(0).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("family", FAMILIES)
def test_families_are_what_they_are_called(family, size):
    graph = _DRAW[family](size, np.random.default_rng(2))
    assert graph.number_of_nodes() == size
    degrees = sorted(degree for _, degree in graph.degree())
    if family in ("tree", "line", "star", "caterpillar", "lobster"):
        assert networkx.is_tree(graph)
    if family == "line":
        assert degrees == [1, 1] + [2] * (size - 2)
    if family == "star":
        assert degrees == [1] * (size - 1) + [size - 1]
    if family == "ladder":
        pairs = size // 2
        assert graph.number_of_edges() == 3 * pairs - 2 + size % 2
    if family == "caterpillar":  # a path once its leaves are gone
        assert _is_path(_without_leaves(graph))
    if family == "lobster":
        assert _is_path(_without_leaves(_without_leaves(graph)))
    if family in ("grid", "caveman"):
        rows = max(k for k in range(1, math.isqrt(size) + 1) if size % k == 0)
        columns = size // rows
        expected = {
            "grid": rows * (columns - 1) + columns * (rows - 1),
            "caveman": rows * columns * (columns - 1) // 2,
        }
        assert graph.number_of_edges() == expected[family]


def _without_leaves(graph):
    kept = graph.copy()
    kept.remove_nodes_from([node for node, degree in graph.degree() if degree <= 1])
    return kept


def _is_path(graph):
    return len(graph) < 2 or sorted(degree for _, degree in graph.degree())[-1] <= 2


def test_the_mixture():
    """Chi-squared of which family is drawn, by what is passed on to it."""
    rng = np.random.default_rng(3)
    drawn = [_family_drawn(rng) for _ in range(1000)]
    expected = {family: 1000 * share for family, share in FAMILIES.items()}
    chi = sum((drawn.count(family) - want) ** 2 / want for family, want in expected.items())
    assert chi < 27.9  # 9 degrees of freedom, p = 0.001


def _family_drawn(rng):
    with pytest.MonkeyPatch.context() as patch:
        called = []
        for family in FAMILIES:

            def draw(n, rng, family=family):
                called.append(family)
                return networkx.complete_graph(n)

            patch.setitem(_DRAW, family, draw)
        random_graph(8, rng)
    return called[0]


@pytest.mark.parametrize("dense", [False, True])
def test_toggling(dense):
    """An edge stays if u + v < p, with u and v uniform in [0, 0.5]; likewise for what appears."""
    n, rounds = 40, 200
    rng = np.random.default_rng(4)
    adjacency = np.triu(rng.random((n, n)) < (0.8 if dense else 0.2), 1)
    adjacency |= adjacency.T
    edges = adjacency.sum() // 2
    others = n * (n - 1) // 2 - edges
    if dense:
        stays, appears = 0.9 + 0.1 * (edges - others) / edges, 0.1
    else:
        stays, appears = 0.9, 0.1 * edges / others
    toggled = [toggle_edges(adjacency, rng) for _ in range(rounds)]
    apart = ~adjacency & ~np.eye(n, dtype=bool)
    kept = np.mean([after[adjacency].mean() for after in toggled])
    made = np.mean([after[apart].mean() for after in toggled])
    # The sum's distribution function is 2 p² below 1/2 and 1 - 2 (1 - p)² above.
    assert kept == pytest.approx(1 - 2 * (1 - stays) ** 2, abs=3e-3)
    assert made == pytest.approx(2 * appears**2, abs=3e-3)
    assert all(np.array_equal(after, after.T) for after in toggled)


def test_the_generator_decides():
    one, two = (random_graph(20, np.random.default_rng(5)) for _ in range(2))
    other = random_graph(20, np.random.default_rng(6))
    assert np.array_equal(one, two) and not np.array_equal(one, other)


def test_bad_arguments():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"num_nodes must be at least 4 \(got 3\)"):
        random_graph(3, rng)
    with pytest.raises(ValueError, match=r"family must be one of erdos_renyi.*\(got 'moebius'\)"):
        random_graph(8, rng, "moebius")
