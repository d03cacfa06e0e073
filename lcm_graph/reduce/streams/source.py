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

from lcm_graph.reduce.streams.accumulator import Accumulator
from lcm_graph.reduce.streams.chunks import Chunk
from lcm_graph.reduce.streams.file import check_monoid_of, read_stream, write_stream


@runtime_checkable
class Slices(Protocol):
    """A tensor, an array, a memory-mapped file, an HDF5 data set: what is cut along dim 0."""

    shape: Any

    def __getitem__(self, rows: slice) -> Any: ...


@torch.no_grad()
def accumulate(
    stream: Accumulator,
    source: Slices | Iterable[Chunk],
    index: Slices | None = None,
    *,
    chunk_size: int = 1 << 16,
    dim_size: int | None = None,
    path: str | os.PathLike[str] | None = None,
    every: float = 60.0,
    progress: bool | None = None,
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

    Returns:
        ``stream``.

    Raises:
        ValueError: ``chunk_size`` is below 1, ``index`` has another length than ``source`` or goes
            with an iterable, the file is damaged or was made from another source or monoid, or
            ``stream`` has elements that the file does not tell of.
        ImportError: safetensors is not installed (extra ``streams``), if there is a ``path``.
        OSError: the file cannot be written.
    """
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int) or chunk_size < 1:
        raise ValueError(f"'chunk_size' must be a positive integer (got {chunk_size!r})")
    if isinstance(source, Slices):
        total: int | None = int(source.shape[0])
        if index is not None and int(index.shape[0]) != total:
            raise ValueError(
                f"'index' must have as many entries as 'source', {total} (got {index.shape[0]})"
            )
        kept = _Kept(stream, path, every, _describe(source))
        done = kept.resume()
        chunks = _cut(source, index, chunk_size, done)
    else:
        if index is not None:
            raise ValueError(
                "'index' goes with a source that is cut; of an iterable, let each chunk be "
                "(elements, index)"
            )
        total = None
        kept = _Kept(stream, path, every, "chunks")
        done = kept.resume()
        chunks = _after(source, done)
    show = sys.stderr.isatty() if progress is None else progress
    with tqdm(total=total, initial=done, unit="element", unit_scale=True, disable=not show) as bar:
        for x, where in chunks:
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
        self.about = {"monoid": repr(stream.monoid), "source": source}
        self.written = time.monotonic()
        self.on_file = -1

    def resume(self) -> int:
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
        self.stream.load_state_dict(tensors)
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


def _describe(source: Slices) -> str:
    """Length, features and dtype: another file of the same kind is not told apart."""
    return f"{tuple(source.shape)} {getattr(source, 'dtype', '')}".strip()


def _cut(
    source: Slices, index: Slices | None, chunk_size: int, start: int
) -> Iterator[tuple[Tensor, Tensor | None]]:
    for at in range(start, int(source.shape[0]), chunk_size):
        rows = slice(at, min(at + chunk_size, int(source.shape[0])))
        yield _tensor(source[rows]), None if index is None else _tensor(index[rows])


def _after(chunks: Iterable[Chunk], skip: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The chunks after the first ``skip`` elements.

    Raises:
        ValueError: the chunks before are of another number of elements.
    """
    passed = 0
    for chunk in chunks:
        x, index = (chunk, None) if isinstance(chunk, Tensor) else chunk
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
