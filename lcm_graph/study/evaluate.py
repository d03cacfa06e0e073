"""What a trained model is asked: large sets, and the same sets alone and in company."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lcm_graph.datasets import SetBatch, SetStream, best_constant, is_right

_MOST_SETS = 512  # in a batch
_TOGETHER = 8  # sets of each size, in a batch of several sizes


class SizeTest(NamedTuple):
    """A test on sets of one size.

    Attributes:
        accuracy: fraction of the sets answered right.
        trivial: that of the best constant answer.
        test_sets: how many there were.
        seconds_per_element: time in the model.
    """

    accuracy: float
    trivial: float
    test_sets: int
    seconds_per_element: float


class AloneTest(NamedTuple):
    """The same sets, one by one and in batches with sets of very different sizes.

    Attributes:
        alone: accuracy on each set by itself.
        batched: accuracy in company.
        change: how far the outputs move, relative to those alone: the mean over sets; None
            where an output is not finite.
    """

    alone: float
    batched: float
    change: float | None


@torch.no_grad()
def measure_size(model: nn.Module, sets: SetStream, batch_elements: int) -> SizeTest:
    """Test a model (in eval mode) on sets of one size, ``batch_elements`` at a time."""
    right, seconds, labels = 0, 0.0, []
    for batch in sets.batches(min(_MOST_SETS, max(1, batch_elements // sets.size))):
        start = time.perf_counter()
        out = model(batch.x, batch.ptr)
        seconds += time.perf_counter() - start
        right += int(is_right(out, batch.y, sets.function.answer).sum())
        labels.append(_labels(batch.y, sets.function.answer))
    trivial = best_constant(torch.cat(labels), sets.function.answer)
    count = len(sets)
    return SizeTest(right / count, trivial, count, seconds / (count * sets.size))


@torch.no_grad()
def measure_alone(model: nn.Module, streams: Sequence[SetStream]) -> dict[int, AloneTest]:
    """Test a model (in eval mode) on each set by itself, and on batches of several of each stream.

    Args:
        model: bits and ptr -> answers, as :class:`lcm_graph.training.SetModel`.
        streams: as many sets of each of several sizes.

    Returns:
        size -> how it went.
    """
    tests = {}
    together = _answer_together(model, [_whole(stream) for stream in streams])
    for stream, company in zip(streams, together, strict=True):
        sets, answer = _whole(stream), stream.function.answer
        one = torch.tensor([0, stream.size])
        alone = torch.cat([model(x, one) for x in sets.x.split(stream.size)])
        moved = (company - alone).norm(dim=1) / alone.norm(dim=1).clamp(min=1e-12)
        tests[stream.size] = AloneTest(
            float(is_right(alone, sets.y, answer).float().mean()),
            float(is_right(company, sets.y, answer).float().mean()),
            float(moved.mean()) if moved.isfinite().all() else None,
        )
    return tests


def _answer_together(model: nn.Module, groups: Sequence[SetBatch]) -> list[Tensor]:
    """The answers to all sets of each group, ``[S, outputs]``, asked in batches of all groups."""
    sizes = [int(group.ptr[1]) for group in groups]
    parts = [group.x.split(_TOGETHER * size) for group, size in zip(groups, sizes, strict=True)]
    answers: list[list[Tensor]] = [[] for _ in groups]
    for batch in zip(*parts, strict=True):
        counts = [len(x) // size for x, size in zip(batch, sizes, strict=True)]
        lengths = torch.tensor(sizes).repeat_interleave(torch.tensor(counts))
        ptr = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        for collected, out in zip(answers, model(torch.cat(batch), ptr).split(counts), strict=True):
            collected.append(out)
    return [torch.cat(collected) for collected in answers]


def _whole(stream: SetStream) -> SetBatch:
    """All sets of a stream as one batch."""
    batches = list(stream)
    ptr = torch.arange(len(stream) + 1) * stream.size
    return SetBatch(torch.cat([b.x for b in batches]), ptr, torch.cat([b.y for b in batches]))


def _labels(y: Tensor, answer: str) -> Tensor:
    """One number ``[S]`` for each answer ``y``, as :func:`best_constant` takes them."""
    if answer == "bits":
        return (y.long() << torch.arange(y.size(1))).sum(1)
    return y if answer == "class" else y[:, 0]
