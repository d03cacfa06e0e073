"""What is asked of a graph in the PNA multitask benchmark: three labels a node, three a graph."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lcm_graph.datasets.graphs.graph_packages import import_csgraph

NODE_LABELS = ("shortest_path", "eccentricity", "laplacian")
GRAPH_LABELS = ("connected", "diameter", "spectral_radius")


def distances(adjacency: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Numbers of edges of shortest paths ``[N, N]``, infinite between components."""
    found: NDArray[np.float64] = import_csgraph().shortest_path(
        adjacency, method="D", directed=False, unweighted=True
    )
    return found


def node_labels(
    adjacency: NDArray[np.bool_], values: NDArray[np.float64], source: int
) -> NDArray[np.float64]:
    """Labels ``[N, 3]`` of nodes, in the order of :data:`NODE_LABELS`.

    - the distance from node ``source``, 0 for nodes of other components;
    - the largest distance to a node of the same component;
    - degree times a node's value less the sum of its neighbours' values.

    Args:
        adjacency: ``[N, N]``.
        values: ``[N]``.
        source: a node.

    Source: Corso et al. (2020), section 4 and their generator, for what is between components.
    """
    finite = _finite(distances(adjacency))
    laplacian = adjacency.sum(1) * values - adjacency @ values
    return np.stack([finite[source], finite.max(1), laplacian], axis=1)


def graph_labels(adjacency: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Labels ``[3]`` of a graph, in the order of :data:`GRAPH_LABELS`.

    - 1 if it is connected *and not bipartite*, 0 otherwise. The benchmark calls this "connected",
      and finds it by whether a high power of the adjacency matrix has no zeros; where the nodes
      have two colours, one half of it has;
    - the largest distance within a component;
    - the largest modulus of an eigenvalue of the adjacency matrix.

    Source: Corso et al. (2020), section 4 and their generator.
    """
    between = distances(adjacency)
    is_connected = bool(np.isfinite(between).all())
    radius = np.abs(np.linalg.eigvalsh(adjacency.astype(np.float64))).max()
    is_primitive = is_connected and not _is_bipartite(adjacency, between)
    return np.array([float(is_primitive), _finite(between).max(), radius])


def _is_bipartite(adjacency: NDArray[np.bool_], between: NDArray[np.float64]) -> bool:
    """Whether no edge joins nodes equally far (mod 2) from the first; of a connected graph."""
    colour = between[0] % 2
    return not bool((adjacency & (colour[:, None] == colour)).any())


def _finite(between: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isfinite(between), between, 0.0)
