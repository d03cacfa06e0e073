"""Citation graphs, whose nodes are classified: Planetoid's, and OGB's arXiv."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.io import read_planetoid_data
from torch_geometric.utils import to_undirected

from lcm_graph.datasets.graphs.graph_packages import import_pandas, import_sparse

ARXIV = "ogbn-arxiv"
PLANETOID = ("Cora", "CiteSeer", "PubMed")
CITATIONS = (*PLANETOID, ARXIV)  #: what :func:`load_citations` knows

_PLANETOID_PARTS = ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index")
_ARXIV_TABLES = ("edge", "node-feat", "node-label")
_SPLITS = ("train", "valid", "test")

Split = dict[str, Tensor]


def load_citations(name: str, root: str | os.PathLike[str]) -> tuple[Data, Split]:
    """Papers that cite each other, with the split that the field compares on.

    Nothing is downloaded and nothing is written: files are read as they were published. Planetoid's
    are pickles, which can run code when they are read: take them from where you trust them.

    Args:
        name: one of :data:`CITATIONS`.
        root: folder that holds ``{name}/raw`` with Planetoid's files ``ind.*``, or ``ogbn_arxiv``
            with OGB's tables in ``raw`` and ``split/time``.

    Returns:
        A graph with ``x`` float32 ``[N, F]``, ``edge_index`` int64 ``[2, E]`` in both directions
        and ``y`` int64 ``[N]``; and ``"train"``, ``"valid"``, ``"test"`` -> int64 node indices.

    Raises:
        ValueError: unknown name, or a file is damaged.
        FileNotFoundError: a file is missing.
        ImportError: scipy (for Planetoid) or pandas (for arXiv) is not installed.

    Source: Yang et al., "Revisiting Semi-Supervised Learning with Graph Embeddings" (2016); Hu et
    al., "Open Graph Benchmark" (2020), section 4.
    """
    if name not in CITATIONS:
        raise ValueError(f"name must be one of {', '.join(CITATIONS)} (got {name!r})")
    folder = Path(root).expanduser() / name.replace("-", "_")
    if name == ARXIV:
        needed = [f"raw/{table}.csv.gz" for table in _ARXIV_TABLES]
        needed += [f"split/time/{split}.csv.gz" for split in _SPLITS]
        read = _read_arxiv
    else:
        needed = [f"raw/ind.{name.lower()}.{part}" for part in _PLANETOID_PARTS]
        read = _read_planetoid
    for file in needed:
        if not (folder / file).is_file():
            raise FileNotFoundError(
                f"{folder / file} does not exist (root={str(root)!r}, name={name!r}); pass as root "
                f"the folder that holds {folder.name}, as published"
            )
    try:
        return read(folder, name)
    except ImportError:
        raise
    except Exception as error:  # pickles, tables and archives fail in ways of their own
        raise ValueError(
            f"a file in {folder} is damaged, or is something else ({error})"
        ) from error


def _read_planetoid(folder: Path, name: str) -> tuple[Data, Split]:
    import_sparse()  # the pickles hold its matrices
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are of old versions of numpy and scipy
        data = read_planetoid_data(str(folder / "raw"), name.lower())
    masks = (data.train_mask, data.val_mask, data.test_mask)
    split = {key: mask.nonzero().flatten() for key, mask in zip(_SPLITS, masks, strict=True)}
    return Data(x=data.x, edge_index=data.edge_index, y=data.y), split


def _read_arxiv(folder: Path, name: str) -> tuple[Data, Split]:
    def table(file: str, dtype: torch.dtype = torch.long) -> Tensor:
        numbers = import_pandas().read_csv(folder / f"{file}.csv.gz", header=None)
        return torch.tensor(numbers.to_numpy(), dtype=dtype)

    x = table("raw/node-feat", torch.float32)
    y = table("raw/node-label").flatten()
    if len(x) != len(y):
        raise ValueError(f"{name} has features of {len(x)} nodes and labels of {len(y)}")
    edge_index = to_undirected(table("raw/edge").t(), num_nodes=len(x))
    split = {key: table(f"split/time/{key}").flatten() for key in _SPLITS}
    return Data(x=x, edge_index=edge_index, y=y), split
