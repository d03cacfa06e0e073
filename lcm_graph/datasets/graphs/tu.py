"""Graph classification data sets of the TU collection, with ten folds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import Data

from lcm_graph.datasets.graphs.archives import read_arrays

FOLDS = 10


def load_tu_graphs(name: str, root: str | os.PathLike[str]) -> list[Data]:
    """Graphs, each with its class and the fold in which it is tested.

    Args:
        name: the data set, e.g. ``"REDDIT-BINARY"``.
        root: folder that holds ``{name}.npz`` with ``edge_index`` (nodes counted over all graphs),
            ``num_nodes``, ``node_tag``, ``y`` and ``fold`` (from 1); or the collection's own text
            files, ``{name}/{name}_A.txt`` and so on, or in ``{name}/raw``, where PyG keeps them:
            folds are dealt out then, each with as many of each class (scikit-learn's
            StratifiedKFold, shuffled with seed 0), and a node without a label is tagged 0.

    Returns:
        Graphs with ``edge_index`` int64 ``[2, E]`` in both directions, ``node_tag`` int64 ``[N]``,
        ``y`` int64 ``[1]`` counted from 0, ``fold`` (from 0, or -1: in none) and ``num_nodes``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is damaged, or is something else.
        ImportError: there are text files, and scikit-learn is not installed (extra ``attention``).

    Source: Morris et al., "TUDataset: A collection of benchmark datasets for learning with graphs"
    (2020); folds as in Xu et al., "How Powerful are Graph Neural Networks?" (2019).
    """
    folder = _text_folder(name, Path(root).expanduser())
    keys = ("edge_index", "num_nodes", "node_tag", "y", "fold")
    found = read_arrays(root, f"{name}.npz", keys) if folder is None else _read_text(folder, name)
    edges, num_nodes, tags, labels, folds = found
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


def _text_folder(name: str, root: Path) -> Path | None:
    """Where the collection's text files are, if there is no archive but them."""
    if (root / f"{name}.npz").exists():
        return None
    folders = (root / name, root / name / "raw")
    return next((some for some in folders if (some / f"{name}_A.txt").exists()), None)


def _read_text(folder: Path, name: str) -> tuple[NDArray[Any], ...]:
    """What the archive holds, of the collection's text files."""

    def read(what: str) -> NDArray[np.int64]:
        path = folder / f"{name}_{what}.txt"
        try:
            return np.loadtxt(path, dtype=np.int64, delimiter=",", ndmin=2)
        except ValueError as error:
            raise ValueError(f"{path} is damaged, or is something else ({error})") from error

    graph_of, labels = read("graph_indicator")[:, 0], read("graph_labels")[:, 0]
    if graph_of.min() != 1 or graph_of.max() != len(labels) or (np.diff(graph_of) < 0).any():
        raise ValueError(
            f"{folder} must have nodes of graphs 1 to {len(labels)} in order (got graphs "
            f"{graph_of.min()} to {graph_of.max()})"
        )
    edges = read("A").T - 1
    if edges.shape[0] != 2 or edges.min() < 0 or edges.max() >= len(graph_of):
        raise ValueError(
            f"{folder / f'{name}_A.txt'} must have pairs of nodes from 1 to {len(graph_of)}"
        )
    has_labels = (folder / f"{name}_node_labels.txt").exists()
    tags = read("node_labels")[:, 0] if has_labels else np.zeros_like(graph_of)
    try:
        from sklearn.model_selection import StratifiedKFold
    except ImportError as error:
        raise ImportError(
            "scikit-learn is needed to deal out folds; install it with: pip install "
            "'lcm-graph[attention]'"
        ) from error
    folds = np.zeros(len(labels), dtype=np.int64)
    dealt = StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(labels, labels)
    for fold, (_, tested) in enumerate(dealt, 1):
        folds[tested] = fold
    return edges, np.bincount(graph_of)[1:], tags, labels, folds
