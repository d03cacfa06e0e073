"""Accumulators in files: tensors and texts, nothing that is run when they are read."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lcm_graph.files import check_writable, write_atomically
from lcm_graph.monoids import Monoid
from lcm_graph.reduce.digest import parameter_digest

_FORMAT = "lcm_graph.accumulator/2"


def write_stream(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], about: Mapping[str, str]
) -> None:
    """Write an accumulator's ``state_dict`` and what there is to know about it.

    Raises:
        ImportError: safetensors is not installed.
        OSError: the file cannot be written.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = _import("safetensors.torch").save(plain, {"format": _FORMAT, **about})
    write_atomically(path, content)


def check_can_write(path: str | os.PathLike[str]) -> None:
    """Find out before the work is done.

    Raises:
        ImportError: safetensors is not installed.
        OSError: the file cannot be written; a missing folder is made.
    """
    _import("safetensors.torch")
    check_writable(path)


def read_stream(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and texts that :func:`write_stream` was given.

    Raises:
        ImportError: safetensors is not installed.
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or is something else.
    """
    safe_open = _import("safetensors").safe_open
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist, or is no file")
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            about = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # the format's own class, which is none of Python's
        raise ValueError(f"{path} is damaged, or no safetensors file ({error})") from error
    if about.pop("format", None) != _FORMAT:
        raise ValueError(f"{path} is no file of an Accumulator, or of another version")
    return tensors, about


def describe_monoid(monoid: Monoid) -> dict[str, str]:
    """What a file says of the monoid: its repr, and a digest of its parameters and buffers."""
    return {"monoid": repr(monoid), "parameters": parameter_digest(monoid)}


def check_monoid_of(path: str | os.PathLike[str], about: Mapping[str, str], monoid: Monoid) -> None:
    """ValueError if a file is of another kind of monoid, or of one with other parameters."""
    mine = describe_monoid(monoid)
    if about.get("monoid") != mine["monoid"]:
        raise ValueError(
            f"{path} was written by an Accumulator of {about.get('monoid')}, not of {monoid}"
        )
    if about.get("parameters") != mine["parameters"]:
        raise ValueError(
            f"{path} was written with other parameters of {monoid}: load those that it had then "
            "with the monoid's load_state_dict first, or begin anew with another path"
        )


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            "safetensors is needed for files of accumulators; install it with: "
            "pip install 'lcm-graph[streams]'"
        ) from error
