"""Folds of files larger than memory, which go on after a kill."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lcm_graph.reduce.sets import check_dim_size
from lcm_graph.reduce.streams.accumulator import Accumulator
from lcm_graph.reduce.streams.chunks import pair
from lcm_graph.reduce.streams.file import (
    check_can_write,
    check_monoid_of,
    describe_monoid,
    read_stream,
    write_stream,
)


@runtime_checkable
class Slices(Protocol):
    """A tensor, an array, a memory-mapped file, an HDF5 data set: what is cut along dim 0."""

    shape: Any

    def __getitem__(self, rows: slice) -> Any: ...


@torch.no_grad()
def accumulate(
    stream: Accumulator,
    source: Slices | Iterable[Any],
    index: Slices | None = None,
    *,
    chunk_size: int = 1 << 16,
    dim_size: int | None = None,
    path: str | os.PathLike[str] | None = None,
    every: float = 60.0,
    progress: bool | None = None,
    device: torch.device | str | None = None,
) -> Accumulator:
    """Take in a source chunk by chunk, in bounded memory and without gradients.

    With ``path`` it goes on after a kill: the file holds the accumulator and how much of the source
    it has taken in, both as of one moment, so that no element is lost and none counts twice. The
    same call goes on from there; of a source that is finished it gives the answer at once.

    Args:
        stream: what takes it in; without a chunk yet, if ``path`` exists.
        source: elements ``[n, features]`` to be cut along dim 0 (a tensor, a NumPy array, a
            ``numpy.memmap``, an HDF5 data set), or an iterable of chunks, elements or
            ``(elements, index)``, the same each time that it is asked for.
        index: the set of each element, to be cut as ``source`` is; for such a source alone.
        chunk_size: elements at a time, of a source that is cut.
        dim_size: number of sets, if more than are named.
        path: where to keep the accumulator (a safetensors file). Another source of the same shape
            and dtype is not told apart.
        every: seconds between two times that it is written; it also is at the end.
        progress: show a progress bar (default: if stderr is a terminal).
        device: where to take the chunks to (default: where they are; what the file holds begins on
            the CPU).

    Returns:
        ``stream``; if something fails, it has taken in the chunks before.

    Raises:
        TypeError: ``stream`` is no accumulator, or ``source`` gives something else than chunks.
        ValueError: ``chunk_size`` is below 1, ``index`` has another length than ``source`` or goes
            with an iterable, the file is damaged or was made from another source or monoid or with
            other parameters, or ``stream`` has elements that the file does not tell of.
        ImportError: safetensors is not installed (extra ``streams``), if there is a ``path``.
        OSError: the file cannot be written, which is tried at the beginning.
    """
    if not isinstance(stream, Accumulator):
        raise TypeError(f"'stream' must be an Accumulator (got {type(stream).__name__})")
    check_dim_size(dim_size)
    if not isinstance(every, (int, float)) or every < 0:
        raise ValueError(f"'every' must be a number of seconds from 0 up (got {every!r})")
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int) or chunk_size < 1:
        raise ValueError(f"'chunk_size' must be a positive integer (got {chunk_size!r})")
    if isinstance(source, Slices):
        if not len(source.shape):
            raise ValueError("'source' must have elements along dim 0 (got one of no dimensions)")
        total: int | None = int(source.shape[0])
        if index is not None and not isinstance(index, Slices):
            raise TypeError(
                f"'index' must be a tensor or an array, as 'source' is (got {type(index).__name__})"
            )
        if index is not None and int(index.shape[0]) != total:
            raise ValueError(
                f"'index' must have as many entries as 'source', {total} (got {index.shape[0]})"
            )
        kept = _Kept(stream, path, every, _describe(source, index))
        done = kept.resume(device)
        chunks = _cut(source, index, chunk_size, done)
    elif not isinstance(source, Iterable):
        raise TypeError(
            "'source' must be a tensor, an array, or an iterable of chunks (got "
            f"{type(source).__name__}); numpy.memmap opens a file of numbers"
        )
    else:
        if index is not None:
            raise ValueError(
                "'index' goes with a source that is cut; of an iterable, let each chunk be "
                "(elements, index)"
            )
        total = None
        kept = _Kept(stream, path, every, "chunks")
        done = kept.resume(device)
        chunks = _after(source, done)
    if done and dim_size is not None:
        _extend(stream, dim_size)
    show = sys.stderr.isatty() if progress is None else progress
    with tqdm(total=total, initial=done, unit="element", unit_scale=True, disable=not show) as bar:
        for x, where in chunks:
            x = x.to(device)
            where = None if where is None else where.to(device)
            stream.update(x, where, dim_size=dim_size)
            done += x.size(0)
            bar.update(x.size(0))
            kept.keep(done)
    kept.keep(done, now=True)
    return stream


class _Kept:
    """The file of an accumulator that has taken in part of a source."""

    def __init__(
        self, stream: Accumulator, path: str | os.PathLike[str] | None, every: float, source: str
    ) -> None:
        self.stream, self.path, self.every = stream, path, every
        self.about = {"source": source}
        self.written = time.monotonic()
        self.on_file = -1
        if path is not None:
            check_can_write(path)
            self.about |= describe_monoid(stream.monoid)

    def resume(self, device: torch.device | str | None) -> int:
        """How many elements the file has taken in, which the accumulator then holds."""
        if self.path is None or not Path(self.path).exists():
            return 0
        tensors, about = read_stream(self.path)
        check_monoid_of(self.path, about, self.stream.monoid)
        if about.get("source") != self.about["source"] or "taken" not in about:
            raise ValueError(
                f"{self.path} was made from another source, {about.get('source')}, not "
                f"{self.about['source']}; use the same source, another path, or delete the file"
            )
        if self.stream.num_elements:
            raise ValueError(
                f"'stream' has {self.stream.num_elements} elements already, and {self.path} holds "
                f"{about['taken']}; pass a fresh Accumulator, or delete the file"
            )
        self.stream.load_state_dict({name: t.to(device) for name, t in tensors.items()})
        self.on_file = int(about["taken"])
        return self.on_file

    def keep(self, taken: int, *, now: bool = False) -> None:
        """Write the file, if it is time to."""
        if self.path is None or taken in (0, self.on_file):
            return
        if not now and time.monotonic() < self.written + self.every:
            return
        write_stream(self.path, self.stream.state_dict(), self.about | {"taken": str(taken)})
        self.written, self.on_file = time.monotonic(), taken


def _extend(stream: Accumulator, dim_size: int) -> None:
    """Have ``dim_size`` sets, as if the chunks before had been taken in with it."""
    if stream.num_sets > dim_size:
        raise ValueError(
            f"'dim_size' must not be below the number of sets in the file, {stream.num_sets} "
            f"(got {dim_size})"
        )
    none = stream.state_dict()["like"]
    stream.update(none, torch.empty(0, dtype=torch.int64, device=none.device), dim_size=dim_size)


def _describe(source: Slices, index: Slices | None) -> str:
    """Length, features and dtype: another file of the same kind is not told apart."""
    found = f"{tuple(source.shape)} {getattr(source, 'dtype', '')}".strip()
    return found if index is None else f"{found} with index {getattr(index, 'dtype', '')}".strip()


def _cut(
    source: Slices, index: Slices | None, chunk_size: int, start: int
) -> Iterator[tuple[Tensor, Tensor | None]]:
    for at in range(start, int(source.shape[0]), chunk_size):
        rows = slice(at, min(at + chunk_size, int(source.shape[0])))
        yield _tensor(source[rows]), None if index is None else _tensor(index[rows])


def _after(chunks: Iterable[Any], skip: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The chunks after the first ``skip`` elements.

    Raises:
        ValueError: the chunks before are of another number of elements.
    """
    passed = 0
    for chunk in chunks:
        x, index = pair(chunk)
        if passed < skip:
            passed += x.size(0)
            if passed > skip:
                raise ValueError(
                    f"'source' does not give the chunks that it gave before: none ends after "
                    f"{skip} elements"
                )
            continue
        yield x, index
    if passed < skip:
        raise ValueError(
            f"'source' does not give the chunks that it gave before: it ends after {passed} "
            f"elements, and {skip} had been taken in"
        )


def _tensor(rows: Any) -> Tensor:
    """A tensor of its own: a file that is mapped to memory may be read-only."""
    return rows if isinstance(rows, Tensor) else torch.from_numpy(np.array(rows))
