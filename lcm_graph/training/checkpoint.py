"""Files that are either complete or not there."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any

import torch

_FORMAT = "lcm_graph.checkpoint"
_VERSION = 1


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, read, or used with the present settings."""


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` to ``path``, all or nothing, creating parent folders as needed.

    The bytes go to a temporary file in the same folder, are flushed to disk and renamed over
    ``path``. If anything fails, a former ``path`` stays as it was and the temporary file is gone.

    Raises:
        OSError: the folder is not writable, the disk is full, ...; the message names ``path``.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
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


def save_checkpoint(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Save ``state`` (tensors, numbers, strings and containers of these) atomically.

    Raises:
        CheckpointError: the file cannot be written; a former checkpoint stays intact.
    """
    buffer = io.BytesIO()
    torch.save({"format": _FORMAT, "version": _VERSION, "state": state}, buffer)
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise CheckpointError(error.strerror) from error


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Load what :func:`save_checkpoint` wrote, onto the CPU, without running code from the file.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is truncated, foreign or of another version.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist; start without resume")
    remedy = "delete it, or start without resume"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged files
        raise CheckpointError(
            f"checkpoint {path} cannot be read: it is truncated or not a checkpoint "
            f"({type(error).__name__}); {remedy}"
        ) from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of lcm_graph; {remedy}")
    if content["version"] != _VERSION:
        raise CheckpointError(
            f"checkpoint {path} has version {content['version']}, this library reads version "
            f"{_VERSION}; {remedy}"
        )
    state: dict[str, Any] = content["state"]
    return state
