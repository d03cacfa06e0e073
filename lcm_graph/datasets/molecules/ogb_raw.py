"""OGB's raw folders: what must be there, whether it is intact, and how to fetch it."""

from __future__ import annotations

import gzip
import shutil
import tempfile
import urllib.request
import zipfile
import zlib
from pathlib import Path

_RAW = ("edge", "node-feat", "edge-feat", "num-node-list", "num-edge-list", "graph-label")
_SPLITS = ("train", "valid", "test")
_TIMEOUT = 30.0  # seconds without an answer


def raw_files(folder: Path, split: str) -> list[Path]:
    """The files that a molecule data set needs in ``folder``, split indices included."""
    raw = [folder / "raw" / f"{name}.csv.gz" for name in _RAW]
    return raw + [folder / "split" / split / f"{name}.csv.gz" for name in _SPLITS]


def check_complete(folder: Path, *, version: int, split: str, processed: bool) -> None:
    """Raise FileNotFoundError naming the first file that ``folder`` lacks.

    Args:
        folder: the data set's own folder.
        version: OGB's version of the data set; ``RELEASE_v<version>.txt`` must exist.
        split: name of the split folder, e.g. ``"scaffold"``.
        processed: a processed file exists, so only the split files are read.
    """
    release = folder / f"RELEASE_v{version}.txt"
    if not release.exists():
        raise FileNotFoundError(
            f"{release} is missing: {folder} is another version of the data set, or not one of "
            f"OGB's folders; delete the folder and load with download=True, or create the (empty) "
            f"file if you know that the version matches"
        )
    for path in raw_files(folder, split):
        if not path.is_file() and not (processed and path.parent.name == "raw"):
            raise FileNotFoundError(
                f"{path} is missing: the copy or download of {folder} is incomplete; delete the "
                f"folder and copy it again, or load with download=True"
            )


def first_damaged(folder: Path, split: str) -> tuple[Path, str] | None:
    """The first gzip file under ``folder`` that does not decompress, and why; None if all do."""
    for path in raw_files(folder, split):
        try:
            with gzip.open(path, "rb") as file:
                while file.read(1 << 20):
                    pass
        except FileNotFoundError:
            continue
        except (OSError, EOFError, zlib.error) as error:
            return path, str(error)
    return None


def fetch(url: str, name_inside: str, folder: Path) -> None:
    """Download a zip archive and put its folder ``name_inside`` at ``folder``, all or nothing.

    Raises:
        RuntimeError: the download failed, the archive is damaged or holds something else.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".download-") as scratch:
            archive = Path(scratch, "archive.zip")
            with urllib.request.urlopen(url, timeout=_TIMEOUT) as reply, archive.open("wb") as out:
                shutil.copyfileobj(reply, out)
            with zipfile.ZipFile(archive) as contents:
                contents.extractall(scratch)
            Path(scratch, name_inside).rename(folder)
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        raise RuntimeError(
            f"could not download {url} to {folder} ({error}); nothing was kept. Check the network "
            f"and the disk, or copy the data set's folder there by hand"
        ) from error
