"""Folds of more elements than memory holds, with gradients."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from lcm_graph.monoids import Monoid
from lcm_graph.reduce.recompute import gradient_tensors
from lcm_graph.reduce.streams.accumulator import Accumulator

GRADIENTS = ("full", "sampled")

Chunk: TypeAlias = "Tensor | tuple[Tensor, Tensor]"
"""Elements ``[n, features]``, or these and ``index`` ``[n]``."""


class Chunks(Protocol):
    """A list of chunks, or what loads them: a data set, slices of a memory-mapped file."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Chunk: ...


def fold_chunks(
    monoid: Monoid,
    chunks: Chunks,
    *,
    gradient: str = "full",
    samples: int = 1,
    generator: torch.Generator | None = None,
    dim_size: int | None = None,
) -> Tensor:
    """Fold sets whose elements are loaded chunk by chunk, and differentiate through all of them.

    The answer is that of an :class:`Accumulator` that takes in the chunks in their order. A chunk
    is loaded when it is needed and not kept. Loading may compute: parameters of an encoder that
    makes the elements get gradients as the monoid's do.

    Args:
        monoid: what to fold with.
        chunks: ``len(chunks)`` and ``chunks[i]``, elements or ``(elements, index)``: the same each
            time that it is asked for, since the backward pass asks again.
        gradient: ``"full"``: exact. The backward pass loads and folds each chunk once more; kept
            are the accumulator's states at the beginning of each. ``"sampled"``: ``samples`` chunks
            are drawn, and the gradient through each of them, divided by the probability to be
            drawn, stands for that of all: its mean is the full gradient, its cost that of
            ``samples`` chunks. The answer is exact either way.
        samples: how many chunks to draw.
        generator: source of randomness on the CPU, for ``"sampled"``; the global one if ``None``.
        dim_size: number of sets, if more than the chunks name.

    Returns:
        ``[sets, out_channels]``, as ``monoid.lower`` gives them.

    Raises:
        TypeError: ``monoid`` is no monoid, ``chunks`` has no length or cannot be indexed, or a
            chunk is neither elements nor ``(elements, index)``.
        ValueError: ``gradient`` is none of these, ``samples`` is not from 1 to ``len(chunks)``, or
            there is no chunk; see also :meth:`Accumulator.update`. In the backward pass: a chunk
            has another shape than before.
        RuntimeError: in the backward pass: the monoid's parameters were changed in between.

    Source: Willette et al., "Scalable Set Encoding with Universal Mini-Batch Consistency and
    Unbiased Full Set Gradient Approximation" (2023), who prove it for sums over chunks. Here the
    gradient of a chunk is that through what is computed when it is taken in, and passes on through
    all that is made from that.
    """
    if gradient not in GRADIENTS:
        raise ValueError(f"'gradient' must be one of {', '.join(GRADIENTS)} (got {gradient!r})")
    if isinstance(chunks, Tensor):
        raise TypeError(
            f"'chunks' must be a list of chunks (got a tensor of shape {tuple(chunks.shape)}); "
            "x.split(size) cuts one"
        )
    if not hasattr(chunks, "__len__") or not hasattr(chunks, "__getitem__"):
        raise TypeError(
            "'chunks' must have a length and give a chunk for each number, as a list does "
            f"(got {type(chunks).__name__}); list(chunks) makes one"
        )
    total = len(chunks)
    if not total:
        raise ValueError("'chunks' must hold at least one, which may be empty (got none)")
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(
            f"'generator' must be a torch.Generator (got {generator!r}); "
            "torch.Generator().manual_seed(…) makes one"
        )
    if gradient == "sampled" and not (isinstance(samples, int) and 1 <= samples <= total):
        raise ValueError(
            f"'samples' must be from 1 to the number of chunks, {total} (got {samples!r})"
        )
    stream = Accumulator(monoid, gradient="all")
    if not torch.is_grad_enabled():
        for number in range(total):
            x, index = pair(chunks[number])
            stream.update(x, index, dim_size=dim_size)
        return stream.result()
    if gradient == "full":
        for number in range(total):
            stream = _checkpointed(stream, chunks, number, dim_size)
        return stream.result()
    drawn = set(torch.randperm(total, generator=generator)[:samples].tolist())
    step = _Step(monoid)
    for number in range(total):
        if number in drawn:
            chunk = pair(chunks[number])
            step.update(stream, *chunk, dim_size=dim_size, scale=total / samples)
        else:
            with torch.no_grad():
                chunk = pair(chunks[number])
            step.update(stream, *chunk, dim_size=dim_size, scale=None)
    return stream.result()


def _checkpointed(
    stream: Accumulator, chunks: Chunks, number: int, dim_size: int | None
) -> Accumulator:
    """The accumulator after one more chunk; computed anew where gradients are."""
    weights = [*stream.monoid.parameters(), *stream.monoid.buffers()]
    versions = [weight._version for weight in weights]
    seen: list[torch.Size] = []

    def after() -> Accumulator:
        later = stream.copy()
        x, index = pair(chunks[number])
        if seen and x.shape != seen[0]:
            raise ValueError(
                f"'chunks' must give the same each time: chunk {number} had shape "
                f"{tuple(seen[0])} in the forward pass (got {tuple(x.shape)} in the backward pass)"
            )
        if seen and [weight._version for weight in weights] != versions:
            raise RuntimeError(
                "the monoid's parameters were changed in place between the forward and the "
                "backward pass of fold_chunks, which computes anew with them: run backward() first"
            )
        seen.append(x.shape)
        later.update(x, index, dim_size=dim_size)
        return later

    later: Accumulator = checkpoint(after, use_reentrant=False)
    return later


class _Step(nn.Module):
    """Takes in a chunk with parameters that pass on less or more of their gradients."""

    def __init__(self, monoid: Monoid) -> None:
        super().__init__()
        self.monoid = monoid

    def forward(
        self, stream: Accumulator, x: Tensor, index: Tensor | None, dim_size: int | None
    ) -> None:
        stream.update(x, index, dim_size=dim_size)

    def update(
        self,
        stream: Accumulator,
        x: Tensor,
        index: Tensor | None,
        *,
        dim_size: int | None,
        scale: float | None,
    ) -> None:
        """Let gradients through what is computed here ``scale`` times, or not at all (``None``)."""
        scaled = {
            f"monoid.{name}": weight.detach() if scale is None else _scaled(weight, scale)
            for name, weight in gradient_tensors(self.monoid).items()
        }
        x = x.detach() if scale is None else _scaled(x, scale)
        functional_call(self, scaled, (stream, x, index, dim_size))


def _scaled(values: Tensor, scale: float) -> Tensor:
    result: Tensor = _ScaleGradient.apply(values, scale)
    return result


class _ScaleGradient(torch.autograd.Function):
    """The same values, their gradients times a number."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.scale, None


def pair(chunk: Any) -> tuple[Tensor, Tensor | None]:
    """Elements and, if there is one, the index; arrays become tensors.

    Raises:
        TypeError: ``chunk`` is neither elements nor ``(elements, index)``.
    """
    parts = list(chunk) if isinstance(chunk, (tuple, list)) else [chunk]
    if not 1 <= len(parts) <= 2 or not all(isinstance(p, (Tensor, np.ndarray)) for p in parts):
        kinds = ", ".join(type(part).__name__ for part in parts)
        raise TypeError(
            f"a chunk must be elements [n, features], or (elements, index): tensors or arrays "
            f"(got {kinds})"
        )
    x, *index = (part if isinstance(part, Tensor) else torch.as_tensor(part) for part in parts)
    return x, index[0] if index else None
