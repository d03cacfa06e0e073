"""The PNA multitask benchmark: small random graphs, three labels a node and three a graph."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Data

from lcm_graph.datasets.graphs.archives import read_arrays
from lcm_graph.datasets.graphs.graph_labels import graph_labels, node_labels
from lcm_graph.datasets.graphs.random_graphs import random_graph

MULTITASK_FILE = "pna_multitask_seed1234.npz"
MULTITASK_SIZES = {"train": range(15, 25), "valid": range(15, 20), "test": range(15, 20)}
"""Numbers of nodes in each split. The benchmark's generator means to validate and test on 15 to 24
as well, but makes five batches of ten sizes, and so stops at 19."""
MULTITASK_COUNTS = {"train": 512, "valid": 128, "test": 256}
"""How many graphs there are of each size."""

_SPLITS = {"train": "train", "valid": "val", "test": "test"}  # ours -> the file's
_KEYS = ("edge_index", "num_nodes", "num_edges", "x", "node_y", "graph_y")


def multitask_graphs(sizes: Iterable[int], num_graphs: int, seed: int) -> list[Data]:
    """Draw ``num_graphs`` graphs of each size and label them.

    Graph g of a call depends on ``seed``, its size and its number among those of that size alone.

    Args:
        sizes: numbers of nodes, each at least 4.
        num_graphs: graphs of each size.
        seed: not negative.

    Returns:
        Graphs with float32 ``x [N, 2]`` (1 at one node, the source of the shortest paths, and a
        number drawn from [0, 1]), ``edge_index [2, E]`` in both directions, ``y [N, 3]`` and
        ``graph_y [1, 3]``, see :mod:`lcm_graph.datasets.graphs.graph_labels`. Labels are raw; the
        benchmark divides them by the largest of the training set.

    Raises:
        ValueError: a size is below 4, or the seed negative.
        ImportError: networkx or scipy is not installed.

    Source: Corso et al., "Principal Neighbourhood Aggregation for Graph Nets" (2020), section 4.
    """
    if seed < 0:
        raise ValueError(f"seed must not be negative (got {seed})")
    return [
        _labelled(np.random.default_rng((seed, size, number)), size)
        for size in sizes
        for number in range(num_graphs)
    ]


def load_multitask_graphs(root: str | os.PathLike[str]) -> dict[str, list[Data]]:
    """The benchmark's own graphs: ``"train"``, ``"valid"``, ``"test"`` -> graphs.

    Args:
        root: folder that holds :data:`MULTITASK_FILE`, an archive of arrays with, for each split,
            ``num_nodes`` and ``num_edges`` ``[G]``, and, end to end, ``edge_index`` (local to its
            graph), ``x``, ``node_y`` and ``graph_y``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or is something else.
    """
    hint = ", or draw graphs by the same rules with multitask_graphs"
    arrays = {
        split: read_arrays(root, MULTITASK_FILE, tuple(f"{name}_{key}" for key in _KEYS), hint)
        for split, name in _SPLITS.items()
    }
    return {split: _unpacked(*mine) for split, mine in arrays.items()}


def _labelled(rng: np.random.Generator, size: int) -> Data:
    adjacency = random_graph(size, rng)
    values, source = rng.random(size), int(rng.integers(size))
    is_source = np.arange(size) == source
    return _data(
        np.stack(np.nonzero(adjacency)),
        np.stack([is_source, values], axis=1),
        node_labels(adjacency, values, source),
        graph_labels(adjacency),
    )


def _unpacked(
    edges: Any, num_nodes: Any, num_edges: Any, x: Any, node_y: Any, graph_y: Any
) -> list[Data]:
    nodes, ends = np.cumsum(num_nodes[:-1]), np.cumsum(num_edges[:-1])
    parts = (
        np.split(edges, ends, axis=1),
        np.split(x, nodes),
        np.split(node_y, nodes),
        list(graph_y),
    )
    return [_data(*graph) for graph in zip(*parts, strict=True)]


def _data(edges: Any, x: Any, node_y: Any, graph_y: Any) -> Data:
    return Data(
        x=torch.tensor(x, dtype=torch.float32),
        edge_index=torch.tensor(edges.astype(np.int64)),
        y=torch.tensor(node_y, dtype=torch.float32),
        graph_y=torch.tensor(graph_y, dtype=torch.float32).unsqueeze(0),
    )
