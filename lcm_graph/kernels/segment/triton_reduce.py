"""``fold``: a pointwise operator over the sets of a ragged batch, along the canonical tree."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
import triton
from torch import Tensor

from lcm_graph.kernels.segment.tasks import Launch, Segments
from lcm_graph.kernels.segment.triton_kernels import segment_fold_kernel

NUM_WARPS = 4
VECTOR = 16
"""Bytes that a thread loads of an element's channels at once."""
MAX_BLOCK_D = 128
MAX_TASKS = 128
UNROLLED = 3
"""Levels of a tree without a loop: 2**UNROLLED loads of a thread are under way at once."""


def fold(
    columns: Sequence[Tensor],
    segments: Segments,
    combine: Any,
    identity: Sequence[float],
    *,
    lift: Any = None,
    lower: Any = None,
    own: Sequence[Tensor] = (),
    parameters: Sequence[Tensor] = (),
    narrow: Sequence[bool] | None = None,
    dtypes: Sequence[torch.dtype] | None = None,
) -> tuple[Tensor, ...]:
    """Fold each set; the reduction of a set depends on nothing but its elements in their order.

    Element p > 0 of a set is combined as right operand at level tz(p), its number of trailing zero
    bits, with the partial result that starts at p - 2**tz(p), as
    :class:`~lcm_graph.reduce.FoldPlan` says: rounding
    grows with the depth, and an operator that is not associative gets that tree and no other.

    An operator of your own is any ``@triton.jit`` function of the state's columns, first those of
    the left operand, then those of the right, that returns a tuple of them (for a state of one
    column: the value itself)::

        @triton.jit
        def gated(a, b):
            return 0.5 * a + b

        @triton.jit
        def complex_product(re_a, im_a, re_b, im_b):
            return re_a * re_b - im_a * im_b, re_a * im_b + im_a * re_b

    Its operands are tiles ``[P, BD]``, ``[P, 1]`` for a narrow column, of which it may only do
    what works number by number. It need not know an identity: what is absent is left out. Functions
    it calls must be ``@triton.jit`` themselves, and its module must import ``triton.language``.
    ``examples/triton_operator.py`` is one that runs.

    Args:
        columns: what the elements are, each ``[N, d]``, or ``[N, 1]`` for a number a row, with any
            strides. float16 and bfloat16 are accumulated in float32.
        segments: the sets, of :func:`~lcm_graph.kernels.segment.tasks.plan`.
        combine: the operator.
        identity: what an empty set answers, a number for each column of the state.
        lift: ``@triton.jit``; makes the state of an element in registers, from ``(*own, *columns,
            *parameters)`` (default: the columns are the state).
        lower: ``@triton.jit``; makes one full column of the state of a set (default: the state).
        own: ``[S, d]`` or ``[S, 1]`` each, with a row a set, handed to ``lift`` for its elements.
        parameters: tensors of one number each, handed to ``lift``.
        narrow: which columns of the state hold one number a row (default: with ``lift`` none, else
            those of ``columns`` that do).
        dtypes: of the results (default: with ``lift`` that of the first column, else each its own).

    Returns:
        Contiguous ``[S, d]``, or ``[S, 1]`` where narrow, for each column of the state; with
        ``lower``, the one column it makes.
    """
    d = max(column.size(1) for column in (*columns, *own))
    narrow_in = tuple(column.size(1) < d for column in columns)
    if narrow is None:
        narrow = (False,) * len(identity) if lift else narrow_in
    kept = [columns[0].dtype] * len(identity) if lift else [column.dtype for column in columns]
    state = [(1 if one else d, accumulator(dtype)) for one, dtype in zip(narrow, kept, strict=True)]
    final = (
        [(d, kept[0])] if lower else [(width, t) for (width, _), t in zip(state, kept, strict=True)]
    )
    if dtypes is not None:
        final = [(width, dtype) for (width, _), dtype in zip(final, dtypes, strict=True)]

    device = columns[0].device
    results = [torch.empty(segments.num_sets, w, dtype=t, device=device) for w, t in final]
    if d == 0:
        return tuple(results)
    options = {"IDENTITY": tuple(identity), "COMBINE": combine}
    first = {"LIFT": lift, "own": own, "parameters": parameters}
    permutation = segments.permutation
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        for stage in segments.stages:
            partials = [torch.empty(stage.partials, w, dtype=t, device=device) for w, t in state]
            for launch in stage.launches:
                outputs = results if launch.whole else partials
                end = lower if launch.whole else None
                _launch(columns, permutation, outputs, launch, d, LOWER=end, **options, **first)
            columns, permutation, first = partials, None, {}
    return tuple(results)


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The dtype that columns of ``dtype`` are combined in."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def _launch(
    columns: Sequence[Tensor],
    permutation: Tensor | None,
    outputs: Sequence[Tensor],
    launch: Launch,
    d: int,
    *,
    own: Sequence[Tensor] = (),
    parameters: Sequence[Tensor] = (),
    LIFT: Any = None,
    **options: Any,
) -> None:
    m = launch.first.numel()
    block_d = min(triton.next_power_of_2(d), MAX_BLOCK_D)
    numbers = VECTOR // max(column.element_size() for column in columns)
    if len(options["IDENTITY"]) > 1:
        numbers = min(numbers, 4)  # or else a state of several columns does not fit in registers
    tasks = min(max(NUM_WARPS * 32 * numbers // block_d, 1), MAX_TASKS)
    segment_fold_kernel[(triton.cdiv(m, tasks), triton.cdiv(d, block_d))](
        tuple(columns),
        _strides(columns),
        permutation,
        tuple(own),
        _strides(own),
        tuple(parameters),
        tuple(outputs),
        launch.first,
        launch.size,
        launch.owner,
        launch.target,
        m,
        d,
        NARROW=_narrow(columns, d),
        NARROW_OWN=_narrow(own, d),
        NARROW_OUT=_narrow(outputs, d),
        LIFT=LIFT,
        LEVELS=launch.levels,
        UNROLLED=UNROLLED,
        TASKS=tasks,
        BLOCK_D=block_d,
        num_warps=NUM_WARPS,
        enable_fp_fusion=False,  # a fused product and sum would round otherwise than the operator
        **options,
    )


def _narrow(columns: Sequence[Tensor], d: int) -> tuple[bool, ...]:
    return tuple(column.size(1) < d for column in columns)


def _strides(columns: Sequence[Tensor]) -> tuple[int, ...]:
    return tuple(stride for column in columns for stride in column.stride())
