"""Files that are either complete or not there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` to ``path``, all or nothing, creating parent folders as needed.

    The bytes go to a temporary file in the same folder, are flushed to disk and renamed over
    ``path``. If anything fails, a former ``path`` stays as it was and the temporary file is gone.

    Raises:
        OSError: the folder is not writable, the disk is full, ...; the message names ``path``.
    """
    path = Path(path)
    temporary = _beside(path)
    try:
        _write(temporary, content)
        os.replace(temporary, path)
    except OSError as error:
        kept = "the former file is intact" if path.is_file() else "nothing was written"
        raise OSError(
            error.errno,
            f"cannot write {path} ({error.strerror or error}); {kept}. Free some space or choose "
            f"another, writable folder",
        ) from error
    finally:
        with contextlib.suppress(OSError):  # already renamed, or never created
            temporary.unlink()


def check_writable(path: str | os.PathLike[str]) -> None:
    """See whether :func:`write_atomically` could write ``path``; makes its folder.

    Raises:
        OSError: it could not.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it")
    temporary = _beside(path)
    try:
        _write(temporary, b"")
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write {path} ({error.strerror or error}); choose another, writable folder",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
