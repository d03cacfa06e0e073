"""The state of a training, in a file."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch

from lcm_graph.files import write_atomically

_FORMAT = "lcm_graph.checkpoint"
_VERSION = 1


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, read, or used with the present settings."""


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
