"""Debian's packages: a graph of dependencies with a few enormous hubs, and heavy-tailed sets."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from lcm_graph.datasets.graphs.archives import read_arrays, read_lines

_BUILT_FROM = "built-from"  # type of the edge from a package to its source


def load_debian_dependencies(root: str | os.PathLike[str]) -> Data:
    """Packages and what they depend on; binary packages are labelled with their archive section.

    Args:
        root: folder that holds ``deps.npz``.

    Returns:
        ``edge_index`` int64 ``[2, E]`` from a package to what it names, ``edge_type`` int64
        ``[E]``, ``node_kind`` int64 ``[N]`` (0 a binary package, 1 a source), ``y`` int64 ``[N]``
        (-1 for sources), ``source`` int64 ``[N]`` (the node of the source package that a package is
        built from; its own, of a source), ``num_nodes``, ``num_classes`` and ``num_edge_types``.
        Packages of one source are much alike: split by sources.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or is something else.
    """
    keys = ("edge_index", "edge_type", "node_kind", "section", "section_names", "edge_type_names")
    edges, edge_type, kind, section, sections, types = read_arrays(root, "deps.npz", keys)
    source = np.arange(len(kind))
    built, built_from = edges[:, types[edge_type] == _BUILT_FROM]
    source[built] = built_from
    return Data(
        edge_index=torch.from_numpy(edges.astype(np.int64)),
        edge_type=torch.from_numpy(edge_type.astype(np.int64)),
        node_kind=torch.from_numpy(kind.astype(np.int64)),
        y=torch.from_numpy(section.astype(np.int64)),
        source=torch.from_numpy(source),
        num_nodes=len(kind),
        num_classes=len(sections),
        num_edge_types=len(types),
    )


class TokenSets(NamedTuple):
    """Sets of tokens with a label each.

    Attributes:
        ptr: int64 ``[S + 1]``; set s is ``tokens[ptr[s]:ptr[s + 1]]``.
        tokens: int64 ``[n]``, below ``num_tokens``.
        y: int64 ``[S]``, below ``num_classes``.
        source: int64 ``[S]``, alike for sets of one origin, which are much alike.
        num_tokens: size of the vocabulary.
        num_classes: number of labels.
    """

    ptr: Tensor
    tokens: Tensor
    y: Tensor
    source: Tensor
    num_tokens: int
    num_classes: int


def load_debian_files(root: str | os.PathLike[str]) -> TokenSets:
    """The parts of file names in each binary package, labelled with its archive section.

    Args:
        root: folder that holds ``files.npz`` and the packages' names ``files_packages.txt.gz``, and
            ``deps.npz`` and its ``deps_nodes.txt.gz``, which tell the sources.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or is something else.
    """
    keys = ("indptr", "indices", "section", "section_names")
    ptr, tokens, section, sections = read_arrays(root, "files.npz", keys)
    packages = read_lines(root, "files_packages.txt.gz")
    places = {name: place for place, name in enumerate(read_lines(root, "deps_nodes.txt.gz"))}
    try:
        nodes = torch.tensor([places[f"b:{package}"] for package in packages])
    except KeyError as error:
        raise ValueError(
            f"no node of deps_nodes.txt.gz is {error}, which files_packages.txt.gz has"
        ) from error
    source = load_debian_dependencies(root).source
    for name, lines, count in (
        ("files_packages.txt.gz", len(packages), len(section)),
        ("deps_nodes.txt.gz", len(places), len(source)),
    ):
        if lines != count:
            raise ValueError(f"{name} must have a line for each of {count} (got {lines})")
    return TokenSets(
        torch.from_numpy(ptr.astype(np.int64)),
        torch.from_numpy(tokens.astype(np.int64)),
        torch.from_numpy(section.astype(np.int64)),
        source[nodes],
        int(tokens.max()) + 1,
        len(sections),
    )
