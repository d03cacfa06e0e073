"""Folds that go on: chunks, and parts folded apart."""

from __future__ import annotations

import torch

from lcm_graph.reduce import Accumulator, segment_reduce
from lcm_graph.testing.check import Measurement
from lcm_graph.testing.compare import expect_close, relative_error
from lcm_graph.testing.subject import SIZES, MonoidSubject, ragged_index


def check_chunks(subject: MonoidSubject) -> Measurement:
    """However the elements are cut into chunks, the answer is that of all at once."""
    monoid = subject.fresh()
    index = ragged_index(SIZES)
    index = index[torch.randperm(len(index), generator=_generator(subject))]
    x = subject.draw(len(index))
    expected = monoid.lower(segment_reduce(monoid, monoid.lift(x), index, dim_size=len(SIZES)))
    worst = 0.0
    for size in (1, 5, len(index)):
        stream = Accumulator(monoid)
        for some, where in zip(x.split(size), index.split(size), strict=True):
            stream.update(some, where, dim_size=len(SIZES))
        error = expect_close(stream.result(), expected, f"chunks of {size} against all at once")
        worst = max(worst, error)
    return worst


def check_merge(subject: MonoidSubject) -> Measurement:
    """Parts folded apart and merged answer like the whole: exactly the tree, if the first parts
    have a power of two of elements; otherwise too, if associativity is claimed."""
    monoid = subject.fresh()
    x = subject.draw(29)
    expected = monoid.lower(segment_reduce(monoid, monoid.lift(x)))
    aligned = expect_close(_merged(subject, (16, 8, 5)), expected, "parts of 16, 8 and 5 merged")
    if not monoid.commutative:
        return aligned
    ragged = _merged(subject, (7, 3, 19))
    if monoid.associative:
        return max(aligned, expect_close(ragged, expected, "parts of 7, 3 and 19 merged"))
    return {"aligned": aligned, "ragged": relative_error(ragged, expected)}


def _merged(subject: MonoidSubject, sizes: tuple[int, ...]) -> torch.Tensor:
    monoid = subject.fresh()
    whole = Accumulator(monoid)
    for part in subject.draw(sum(sizes)).split(sizes):
        stream = Accumulator(monoid)
        stream.update(part)
        whole.merge(stream)
    return whole.result()


def _generator(subject: MonoidSubject) -> torch.Generator:
    return torch.Generator().manual_seed(subject.seed)


CHECKS = (check_chunks, check_merge)
