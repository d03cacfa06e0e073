"""Graph classification data sets of the TU collection, with ten folds."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch_geometric.data import Data

from lcm_graph.datasets.graphs.archives import read_arrays

FOLDS = 10


def load_tu_graphs(name: str, root: str | os.PathLike[str]) -> list[Data]:
    """Graphs, each with its class and the fold in which it is tested.

    Args:
        name: the data set, e.g. ``"REDDIT-BINARY"``.
        root: folder that holds ``{name}.npz`` with ``edge_index`` (nodes counted over all graphs),
            ``num_nodes``, ``node_tag``, ``y`` and ``fold``.

    Returns:
        Graphs with ``edge_index`` int64 ``[2, E]`` in both directions, ``node_tag`` int64 ``[N]``,
        ``y`` int64 ``[1]`` counted from 0, ``fold`` (from 0, or -1: in none) and ``num_nodes``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or is something else.

    Source: Morris et al., "TUDataset: A collection of benchmark datasets for learning with graphs"
    (2020); folds as in Xu et al., "How Powerful are Graph Neural Networks?" (2019).
    """
    keys = ("edge_index", "num_nodes", "node_tag", "y", "fold")
    edges, num_nodes, tags, labels, folds = read_arrays(root, f"{name}.npz", keys)
    total = int(num_nodes.sum())
    source, target = edges.astype(np.int64)
    both = np.unique(np.concatenate([source * total + target, target * total + source]))
    edges = np.stack([both // total, both % total])  # in the order of their sources
    starts = np.concatenate([[0], np.cumsum(num_nodes, dtype=np.int64)])
    parts = zip(
        np.split(edges, np.searchsorted(edges[0], starts[1:-1]), axis=1),
        np.split(tags.astype(np.int64), starts[1:-1]),
        starts[:-1],
        np.unique(labels, return_inverse=True)[1],
        folds,
        strict=True,
    )
    return [
        Data(
            edge_index=torch.from_numpy(mine - start),
            node_tag=torch.from_numpy(tag),
            y=torch.tensor([label]),
            fold=int(fold) - 1 if fold > 0 else -1,
            num_nodes=len(tag),
        )
        for mine, tag, start, label, fold in parts
    ]
