"""Small archives in the layouts of the real ones."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix


def write_dependencies(folder: Path, num_nodes: int = 60, num_classes: int = 3) -> None:
    """``deps.npz``: each node names its class's hub; every third is the source of the two before
    it."""
    rng = np.random.default_rng(0)
    nodes = np.arange(num_nodes)
    is_source = nodes % 3 == 2
    section = rng.integers(num_classes, size=num_nodes).astype(np.int8)
    hubs = np.array([0, 1, 3])[:num_classes]
    section[hubs] = np.arange(num_classes)
    named = hubs[section]
    section[is_source] = -1
    names = np.stack([nodes, named])[:, nodes != named]
    built = np.stack([nodes, nodes - nodes % 3 + 2])[:, ~is_source]
    kinds = rng.integers(2, size=names.shape[1])
    np.savez(
        folder / "deps.npz",
        edge_index=np.concatenate([names, built], 1).astype(np.int32),
        edge_type=np.concatenate([kinds, np.full(built.shape[1], 2)]).astype(np.int8),
        node_kind=is_source.astype(np.int8),
        section=section,
        section_names=np.array([f"class{c}" for c in range(num_classes)]),
        edge_type_names=np.array(["Depends", "Suggests", "built-from"]),
    )
    lines = "".join(f"{'bs'[int(is_source[node])]}:package{node}\n" for node in nodes)
    (folder / "deps_nodes.txt.gz").write_bytes(gzip.compress(lines.encode()))


def write_files(folder: Path, num_sets: int = 40, num_classes: int = 3) -> None:
    """``files.npz``: a set of class c holds token c; one set is far larger than the others, and the
    last is the same as the first but one. Of the packages of ``deps.npz`` that are no sources."""
    rng = np.random.default_rng(0)
    section = rng.integers(num_classes, size=num_sets).astype(np.int8)
    sizes = rng.integers(1, 6, size=num_sets)
    sizes[0] = 500
    section[-1], sizes[-1] = section[1], sizes[1]
    sets = [
        np.concatenate([[label], rng.integers(num_classes, 40, size=size - 1)])
        for label, size in zip(section, sizes, strict=True)
    ]
    sets[-1] = sets[1][::-1]
    np.savez(
        folder / "files.npz",
        indptr=np.concatenate([[0], np.cumsum(sizes)]),
        indices=np.concatenate(sets).astype(np.int32),
        section=section,
        section_names=np.array([f"class{c}" for c in range(num_classes)]),
    )
    lines = "".join(f"package{number // 2 * 3 + number % 2}\n" for number in range(num_sets))
    (folder / "files_packages.txt.gz").write_bytes(gzip.compress(lines.encode()))


def write_tu(folder: Path, name: str, num_graphs: int = 40) -> None:
    """Stars of class 5 and cycles of class 2, an edge in one direction; graph 0 is in no fold."""
    edges, sizes, start = [], [], 0
    rng = np.random.default_rng(0)
    for graph in range(num_graphs):
        size = int(rng.integers(4, 12))
        others = np.arange(1, size)
        if graph % 2:
            edges.append(np.stack([np.zeros_like(others), others]) + start)
        else:
            nodes = np.arange(size)
            edges.append(np.stack([nodes, (nodes + 1) % size]) + start)
        sizes.append(size)
        start += size
    fold = (np.arange(num_graphs) // 2 % 10 + 1).astype(np.int8)
    fold[0] = -1
    np.savez(
        folder / f"{name}.npz",
        edge_index=np.concatenate(edges, 1).astype(np.int32),
        num_nodes=np.array(sizes, dtype=np.int32),
        node_tag=np.arange(start).astype(np.int16),
        y=np.where(np.arange(num_graphs) % 2, 5, 2).astype(np.int8),
        fold=fold,
    )


def write_planetoid(folder: Path, name: str, num_nodes: int = 700, num_classes: int = 3) -> None:
    """Files ``ind.*``: a ring, whose nodes tell their class; the last hundred are tested."""
    raw = folder / name / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    y = np.eye(num_classes, dtype=np.int32)[rng.integers(num_classes, size=num_nodes)]
    known, tested = num_nodes - 100, rng.permutation(np.arange(num_nodes - 100, num_nodes))
    parts = {"": np.arange(10 * num_classes), "all": np.arange(known), "t": tested}
    ring = {node: [(node - 1) % num_nodes, (node + 1) % num_nodes] for node in range(num_nodes)}
    contents: dict[str, object] = {"graph": ring}
    for prefix, nodes in parts.items():
        contents[f"{prefix}x"] = csr_matrix(y[nodes].astype(np.float32))
        contents[f"{prefix}y"] = y[nodes]
    for part, content in contents.items():
        (raw / f"ind.{name.lower()}.{part}").write_bytes(pickle.dumps(content))
    np.savetxt(raw / f"ind.{name.lower()}.test.index", tested, fmt="%d")


def write_arxiv(folder: Path, num_nodes: int = 50) -> None:
    """``ogbn_arxiv``: a path, whose nodes tell their class; split into thirds."""
    rng = np.random.default_rng(0)
    label = rng.integers(4, size=num_nodes)
    nodes = np.arange(num_nodes)
    tables = {
        "raw/edge": np.stack([nodes[1:], nodes[:-1]], 1),
        "raw/node-feat": np.eye(4)[label],
        "raw/node-label": label,
        **{f"split/time/{s}": nodes[i::3] for i, s in enumerate(("train", "valid", "test"))},
    }
    for name, table in tables.items():
        path = folder / "ogbn_arxiv" / f"{name}.csv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savetxt(path, table, fmt="%g", delimiter=",")
