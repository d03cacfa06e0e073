"""OGB's molecule data sets, loaded safely and without questions asked."""

from __future__ import annotations

import contextlib
import difflib
import functools
import io
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lcm_graph.datasets.molecules.ogb_import import import_ogb
from lcm_graph.datasets.molecules.ogb_raw import check_complete, fetch, first_damaged

BUNDLED = "ogbg-molfreesolv"  #: the data set shipped with the package
_BUNDLED_ROOT = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Molecules:
    """A molecule data set with everything needed to train and score on it.

    Attributes:
        name: OGB's name, e.g. ``"ogbg-molhiv"``.
        dataset: OGB's ``PygGraphPropPredDataset``, held in memory. Graphs have int64 ``x``
            ``[num_nodes, 9]``, ``edge_index`` ``[2, num_edges]`` and ``edge_attr``
            ``[num_edges, 3]``; ``y`` is ``[1, num_tasks]``, NaN where a label is missing.
        split: ``"train"``, ``"valid"``, ``"test"`` -> int64 graph indices.
        evaluator: OGB's ``Evaluator``.
        metric: the evaluator's metric, ``"rocauc"``, ``"ap"`` or ``"rmse"``.
        maximize: whether more of ``metric`` is better.
        num_tasks: number of labels per graph.
        task_type: ``"binary classification"`` or ``"regression"``.
    """

    name: str
    dataset: Any
    split: dict[str, Tensor]
    evaluator: Any
    metric: str
    maximize: bool
    num_tasks: int
    task_type: str

    @property
    def is_regression(self) -> bool:
        return self.task_type == "regression"

    def subset(self, split: str) -> Any:
        """The graphs of ``"train"``, ``"valid"`` or ``"test"``, as an indexable data set."""
        if split not in self.split:
            raise ValueError(f"split must be one of {', '.join(self.split)} (got {split!r})")
        return self.dataset[self.split[split]]

    def targets(self, split: str) -> Tensor:
        """Labels float32 ``[num_graphs_in_split, num_tasks]``, NaN where missing."""
        return torch.cat([graph.y for graph in self.subset(split)]).float()

    def score(self, y_true: Tensor, y_pred: Tensor) -> float:
        """OGB's metric of predictions ``[num_graphs, num_tasks]`` (higher score: more positive)."""
        return float(self.evaluator.eval({"y_true": y_true, "y_pred": y_pred})[self.metric])

    def __len__(self) -> int:
        return len(self.dataset)

    def __repr__(self) -> str:
        sizes = "/".join(str(len(index)) for index in self.split.values())
        return f"{type(self).__name__}({self.name!r}, {len(self)} graphs, split {sizes})"


def load_molecules(
    name: str, root: str | os.PathLike[str] | None = None, *, download: bool = False
) -> Molecules:
    """Load one of OGB's ``ogbg-mol*`` data sets.

    OGB processes a folder once and keeps the result in ``processed/`` beside ``raw/``; it is
    written to a temporary file and renamed, so that a killed run leaves nothing half-written.
    Processed files are read with ``weights_only=True`` and PyG's data classes allow-listed.

    Args:
        name: OGB's name, e.g. ``"ogbg-molhiv"``.
        root: folder that holds the data set's folder (``ogbg_molhiv`` or ``ogbg_molhiv_pyg``).
            None for the FreeSolv copy that the package ships, processed in a temporary folder.
        download: fetch the data set from OGB's server if its folder is absent.

    Raises:
        ValueError: unknown name, no ``root`` for a data set that is not shipped, or a file is
            damaged.
        FileNotFoundError: the folder or one of its files is missing.
        PermissionError: ``processed/`` must be written and cannot be.
        RuntimeError: the download failed.
        ImportError: OGB is not installed, or torch is older than 2.6.

    Source: Hu et al., "Open Graph Benchmark" (2020), section 5.1 (splits, metrics).
    """
    import_ogb("ogb")
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 6):
        raise ImportError(  # OGB leaves torch.load at its default, which unpickles anything there
            f"molecule data sets need torch >= 2.6, which loads files safely by default "
            f"(got {torch.__version__})"
        )
    meta = _metadata(name)
    if root is not None:
        return _load(name, meta, Path(root).expanduser(), download)
    if name != BUNDLED:
        raise ValueError(
            f"root must be given for {name!r}: only {BUNDLED!r} is shipped with the package; pass "
            f"the folder that holds {_folder_name(name)}, or an empty one and download=True"
        )
    with tempfile.TemporaryDirectory(prefix="lcm-graph-") as scratch:
        target = Path(scratch, _folder_name(name))
        shutil.copytree(_BUNDLED_ROOT / target.name, target, copy_function=shutil.copyfile)
        for folder in (target, *(path for path in target.rglob("*") if path.is_dir())):
            folder.chmod(0o755)  # an installed package may be read-only
        return _load(name, meta, Path(scratch), download=False)


def _folder_name(name: str) -> str:
    return name.replace("-", "_")


def _metadata(name: str) -> dict[str, str]:
    """OGB's own table entry for ``name``."""
    import pandas as pd

    table_path = Path(import_ogb("ogb.graphproppred").__file__ or "").with_name("master.csv")
    table = pd.read_csv(table_path, index_col=0, keep_default_na=False)
    known = [column for column in table if column.startswith("ogbg-mol")]
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3) or known
        raise ValueError(f"name {name!r} is not a molecule data set of OGB; try {', '.join(close)}")
    return {str(key): str(value) for key, value in table[name].items()}


def _load(name: str, meta: dict[str, str], root: Path, download: bool) -> Molecules:
    folder = root / _folder_name(name)
    converted = root / f"{_folder_name(name)}_pyg"
    if converted.exists():
        folder = converted
    if not folder.is_dir():
        if not download:
            raise FileNotFoundError(
                f"{folder} does not exist (root={str(root)!r}, name={name!r}); pass as root the "
                f"folder that holds {folder.name} or {converted.name}, or load with download=True"
            )
        fetch(meta["url"], meta["download_name"], folder)
    processed = folder / "processed" / "geometric_data_processed.pt"
    check_complete(
        folder, version=int(meta["version"]), split=meta["split"], processed=processed.exists()
    )

    had_processed = processed.exists()
    try:
        dataset, split = _construct(name, root)
        _check_counts(dataset, split)
    except Exception as error:
        if not had_processed:  # built just now, from files that do not fit together
            with contextlib.suppress(OSError):
                processed.unlink()
        raise _explained(error, folder, processed, had_processed, meta["split"]) from error
    return Molecules(
        name=name,
        dataset=dataset,
        split=split,
        evaluator=import_ogb("ogb.graphproppred").Evaluator(name),
        metric=meta["eval metric"],
        maximize=meta["eval metric"] != "rmse",
        num_tasks=int(meta["num tasks"]),
        task_type=meta["task type"],
    )


def _construct(name: str, root: Path) -> tuple[Any, dict[str, Tensor]]:
    from torch_geometric.data import Data
    from torch_geometric.data.data import DataEdgeAttr, DataTensorAttr
    from torch_geometric.data.storage import GlobalStorage

    noise = io.StringIO()
    with (
        torch.serialization.safe_globals([Data, DataEdgeAttr, DataTensorAttr, GlobalStorage]),
        contextlib.redirect_stdout(noise),
        contextlib.redirect_stderr(noise),
        warnings.catch_warnings(),
    ):
        # OGB makes tensors of pandas' read-only arrays; collating copies them.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        with _no_monitor_thread():
            dataset = _dataset_class()(name, root=str(root))
        split = dataset.get_idx_split()
    dataset.__class__ = type(dataset).__base__  # plain and picklable, for data loader workers
    return dataset, split


@contextlib.contextmanager
def _no_monitor_thread() -> Iterator[None]:
    """OGB's progress bars would start tqdm's monitor thread for the rest of the process."""
    from tqdm import tqdm

    saved, tqdm.monitor_interval = tqdm.monitor_interval, 0
    try:
        yield
    finally:
        tqdm.monitor_interval = saved


@functools.cache
def _dataset_class() -> type[Any]:
    """OGB's data set, except that ``processed/`` is written all or nothing."""
    base: type[Any] = import_ogb("ogb.graphproppred").PygGraphPropPredDataset

    class MoleculeDataset(base):
        _target: str | None = None

        @property
        def processed_file_names(self) -> str:
            return self._target or super().processed_file_names

        def _download(self) -> None:  # checked before; PyG's would go to the network unasked
            pass

        def _process(self) -> None:  # PyG's would also unpickle pre_transform.pt unsafely
            final = self.processed_paths[0]
            if os.path.exists(final):
                return
            os.makedirs(self.processed_dir, exist_ok=True)
            self._target = f".{self.processed_file_names}.{os.getpid()}.tmp"
            temporary = self.processed_paths[0]
            try:
                self.process()
                os.replace(temporary, final)
            finally:
                self._target = None
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)

    return MoleculeDataset


def _check_counts(dataset: Any, split: dict[str, Tensor]) -> None:
    """A file cut at a line's end still parses; its lengths then disagree."""
    data, num_graphs = dataset._data, len(dataset)
    if int(torch.as_tensor(data.num_nodes).sum()) != data.x.size(0):
        raise ValueError("numbers of nodes and of node features disagree")
    if data.edge_index.size(1) != data.edge_attr.size(0) or data.y.size(0) != num_graphs:
        raise ValueError("numbers of graphs, labels and edge features disagree")
    listed = torch.cat(list(split.values()))
    if listed.numel() != num_graphs or int(listed.max()) >= num_graphs:
        raise ValueError(
            f"the split lists {listed.numel()} graphs up to index {int(listed.max())}, but there "
            f"are {num_graphs} graphs"
        )
    values, counts = listed.unique(return_counts=True)
    if len(values) != num_graphs or int(values.min()) < 0:
        twice = int(values[counts.argmax()])
        both = [name for name, indices in split.items() if (indices == twice).any()]
        raise ValueError(
            f"the split must list each graph once, but graph {twice} is in {' and '.join(both)}"
        )


def _explained(
    error: Exception, folder: Path, processed: Path, had_processed: bool, split: str
) -> Exception:
    """The same failure, naming the file at fault and what to do about it."""
    if damaged := first_damaged(folder, split):
        path, reason = damaged
        return ValueError(
            f"{path} is damaged ({reason}); delete {folder} and copy or download it again"
        )
    if had_processed:
        return ValueError(
            f"{processed} cannot be used ({_first_line(error)}): it is damaged or was written by "
            f"something else; delete it, and it is rebuilt from {folder / 'raw'}"
        )
    if isinstance(error, OSError):
        return PermissionError(
            f"cannot write {processed} ({_first_line(error)}), where OGB keeps its processed "
            f"data; copy the folder {folder} to a writable place with free space and pass that "
            f"as root"
        )
    return ValueError(
        f"{folder / 'raw'} cannot be processed ({_first_line(error)}): its files do not fit "
        f"together; delete {folder} and copy or download it again"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
