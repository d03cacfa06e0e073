"""Gathering and adding over ranks, with gradients of any order, which are collective too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_NAME = "distributed_reduce"


def gather_numbers(numbers: list[int], device: torch.device, group: dist.ProcessGroup) -> Tensor:
    """What each rank passes, int64 ``[ranks, len(numbers)]`` on the CPU."""
    mine = torch.tensor(numbers, dtype=torch.int64, device=device)
    return torch.stack(_all_gather(mine, group)).cpu()


def gather_rows(
    tensor: Tensor, sizes: list[int], group: dist.ProcessGroup, needs_grad: bool = False
) -> Tensor:
    """The rows of all ranks, ``sizes[r]`` of rank r, one after another.

    Args:
        tensor: the rows of this rank.
        sizes: the same on all ranks.
        group: the ranks.
        needs_grad: whether there will be a backward pass, the same on all ranks. A gradient then
            is the sum of those of all ranks.
    """
    if needs_grad and _is_differentiable(tensor):
        with torch.enable_grad():
            gathered: Tensor = _GatherRows.apply(tensor, _anchor(tensor), sizes, group)
        return gathered
    return _gather(tensor, sizes, group)


def sum_over_ranks(tensor: Tensor, group: dist.ProcessGroup, needs_grad: bool = False) -> Tensor:
    """The sum of the tensors of all ranks; a gradient is the sum of those of all ranks."""
    if needs_grad and _is_differentiable(tensor):
        with torch.enable_grad():
            summed: Tensor = _SumOverRanks.apply(tensor, _anchor(tensor), group)
        return summed
    return _sum(tensor, group)


class _GatherRows(torch.autograd.Function):
    """The anchor makes the result need a gradient on every rank, if it does on any: the backward
    pass is a collective operation."""

    @staticmethod
    def forward(
        ctx: Any, tensor: Tensor, anchor: Tensor, sizes: list[int], group: dist.ProcessGroup
    ) -> Tensor:
        ctx.sizes, ctx.group = sizes, group
        return _gather(tensor, sizes, group)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        total = _sum_again(gradient, ctx.group)
        return total.split(ctx.sizes)[dist.get_rank(ctx.group)], None, None, None


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, anchor: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return _sum(tensor, group)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _sum_again(gradient, ctx.group), None, None


def _sum_again(gradient: Tensor, group: dist.ProcessGroup) -> Tensor:
    """The sum of all ranks' gradients, itself differentiable if they will be differentiated."""
    return sum_over_ranks(gradient, group, needs_grad=torch.is_grad_enabled())


def _is_differentiable(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _anchor(tensor: Tensor) -> Tensor:
    return torch.zeros((), device=tensor.device, requires_grad=True)


def _gather(tensor: Tensor, sizes: list[int], group: dist.ProcessGroup) -> Tensor:
    most = max(sizes)
    padded = tensor.detach().new_zeros(most, *tensor.shape[1:])
    padded[: tensor.size(0)] = tensor.detach()
    as_bytes = padded.to(torch.uint8) if padded.dtype == torch.bool else padded
    parts = _all_gather(as_bytes, group)
    rows = torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])
    return rows.to(tensor.dtype)


def _all_gather(tensor: Tensor, group: dist.ProcessGroup) -> list[Tensor]:
    if tensor.is_complex():
        parts = _all_gather(torch.view_as_real(tensor.contiguous()), group)
        return [torch.view_as_complex(part) for part in parts]
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size(group))]
    with _together(group):
        dist.all_gather(parts, tensor.contiguous(), group=group)
    return parts


def _sum(tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
    total = tensor.detach().resolve_conj().clone(memory_format=torch.contiguous_format)
    with _together(group):
        dist.all_reduce(torch.view_as_real(total) if total.is_complex() else total, group=group)
    return total


@contextmanager
def _together(group: dist.ProcessGroup) -> Iterator[None]:
    """Say what it means if a collective operation fails.

    Raises:
        RuntimeError: it did: another process has ended, or has not come in time.
    """
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(
            f"{_NAME} failed on rank {dist.get_rank(group)} of {dist.get_world_size(group)}: "
            "another process has ended or does not answer; all ranks of the group have to call it "
            f"and its backward pass, in the same order ({error})"
        ) from error
