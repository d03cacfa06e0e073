"""Labels of graphs against networkx's."""

import networkx as nx
import numpy as np
import pytest

from lcm_graph.datasets.graphs.graph_labels import graph_labels, node_labels
from lcm_graph.datasets.graphs.random_graphs import random_graph

GRAPHS = {
    "path": nx.path_graph(5),
    "two components": nx.disjoint_union(nx.path_graph(4), nx.cycle_graph(3)),
    "odd cycle": nx.cycle_graph(7),
    "even cycle": nx.cycle_graph(8),
    "clique": nx.complete_graph(6),
    "star": nx.star_graph(16),
    "pair": nx.path_graph(2),
    "triangle with a tail": nx.lollipop_graph(3, 4),
    "drawn": nx.from_numpy_array(random_graph(17, np.random.default_rng(0))),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_labels(name):
    graph = GRAPHS[name]
    adjacency = nx.to_numpy_array(graph) > 0
    n = len(adjacency)
    values, source = np.random.default_rng(1).random(n), n - 1
    lengths = dict(nx.all_pairs_shortest_path_length(graph))
    farthest = [max(lengths[node].values()) for node in range(n)]
    expected = np.stack(
        [
            [lengths[source].get(node, 0) for node in range(n)],
            farthest,
            nx.laplacian_matrix(graph).toarray() @ values,
        ],
        axis=1,
    )
    np.testing.assert_allclose(node_labels(adjacency, values, source), expected, atol=1e-12)
    is_primitive = nx.is_connected(graph) and not nx.is_bipartite(graph)
    radius = np.abs(np.linalg.eigvals(adjacency.astype(float))).max()
    np.testing.assert_allclose(
        graph_labels(adjacency), [is_primitive, max(farthest), radius], atol=1e-9
    )
