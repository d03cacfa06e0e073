"""Archives of arrays that hold no pickles, and lists of names."""

from __future__ import annotations

import gzip
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_arrays(
    root: str | os.PathLike[str], name: str, keys: tuple[str, ...], hint: str = ""
) -> list[NDArray[Any]]:
    """The arrays ``keys`` of the archive ``root/name``.

    Raises:
        FileNotFoundError: there is no such file; the message ends with ``hint``.
        ValueError: it is damaged, or has not these arrays.
    """
    path = _existing(root, name, hint)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return [arrays[key] for key in keys]
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged, or is something else ({error})") from error


def read_lines(root: str | os.PathLike[str], name: str) -> list[str]:
    """The lines of the gzipped text ``root/name``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or is something else.
    """
    path = _existing(root, name)
    try:
        return gzip.decompress(path.read_bytes()).decode().splitlines()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged, or is something else ({error})") from error


def _existing(root: str | os.PathLike[str], name: str, hint: str = "") -> Path:
    path = Path(root).expanduser() / name
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist (root={str(root)!r}); pass as root the folder that holds "
            f"{name}{hint}"
        )
    return path
