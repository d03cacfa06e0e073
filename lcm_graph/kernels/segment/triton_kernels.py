"""The Triton kernel that folds subtrees of the canonical tree, for any pointwise operator."""

# mypy: allow-untyped-defs, allow-incomplete-defs, disable-error-code=assignment
# ruff: noqa: RUF005
# Operands have Triton's types, which a checker does not know; tuples grow by + alone.

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _larger(a, b):
    return tl.maximum(a, b)


@triton.jit
def _load(columns, strides, rows, present, channels, within, NARROW: tl.constexpr):
    """Rows ``[P]`` of each column, in the dtype to accumulate in: a tuple of [P, BD] or [P, 1]."""
    values = ()
    for j in tl.static_range(len(NARROW)):
        at = columns[j] + rows * strides[2 * j]
        if NARROW[j]:
            value = tl.load(at, mask=present, other=0)[:, None]
        else:
            mask = present[:, None] & within[None, :]
            value = tl.load(at[:, None] + (channels * strides[2 * j + 1])[None, :], mask, other=0)
        if value.dtype.is_floating() and value.dtype.primitive_bitwidth < 32:
            value = value.to(tl.float32)
        values = values + (value,)
    return values


@triton.jit
def _merge(left, right, present, COMBINE: tl.constexpr):
    """``left ⊕ right`` where ``right`` is ``present [P]``; elsewhere ``left`` moves up unpaired."""
    both = (COMBINE(left[0], right[0]),) if len(left) == 1 else COMBINE(*left, *right)
    out = ()
    for j in tl.static_range(len(left)):
        out = out + (tl.where(present[:, None], both[j].to(left[j].dtype), left[j]),)
    return out


@triton.jit
def _push(stack, carry, number, count, LEVEL: tl.constexpr, COMBINE: tl.constexpr):
    """Count up: the subtree ``number``, of ``2**LEVEL`` places, joins those that wait on the stack.

    The stack has a partial result for each bit that is set in the number of subtrees so far.
    """
    out = ()
    for level in tl.static_range(len(stack)):
        waits = stack[level]
        ones = (1 << level) - 1
        if (number & ones) == ones:
            if (number >> level) & 1:
                start = (number - ones) << LEVEL
                carry = _merge(waits, carry, count > start, COMBINE)
            else:
                waits = carry
        out = out + (waits,)
    return out


@triton.jit
def _pop(stack, number, count, LEVEL: tl.constexpr, COMBINE: tl.constexpr):
    """Fold what waits on the stack after ``number`` subtrees, from the right."""
    result = stack[0]
    for level in tl.static_range(1, len(stack)):
        if (number >> level) & 1:
            rest = number & ((1 << level) - 1)
            if rest == 0:
                result = stack[level]
            else:
                start = (number - rest) << LEVEL
                result = _merge(stack[level], result, count > start, COMBINE)
    return result


@triton.jit
def _subtree(
    columns, strides, permutation, first, count, channels, within, own, parameters,
    NARROW: tl.constexpr, COMBINE: tl.constexpr, LIFT: tl.constexpr, STATE: tl.constexpr,
    LEVEL: tl.constexpr,
):  # fmt: skip
    """The fold of places ``first`` to ``first + min(count, 2**LEVEL) - 1``, of ``count [P]``.

    Recursion on a constant unrolls the tree: a thread keeps one partial result a level, and
    exchanges nothing with other threads. Where ``count`` is not positive the result is garbage.
    """
    if LEVEL == 0:
        rows = first
        if permutation is not None:
            rows = tl.load(permutation + first, mask=count > 0, other=0)
        values = _load(columns, strides, rows, count > 0, channels, within, NARROW)
        if LIFT is None:
            return values
        elif STATE == 1:
            return (LIFT(*own, *values, *parameters),)
        else:
            return LIFT(*own, *values, *parameters)
    else:
        half: tl.constexpr = 1 << (LEVEL - 1)
        left = _subtree(
            columns, strides, permutation, first, count, channels, within, own, parameters,
            NARROW, COMBINE, LIFT, STATE, LEVEL - 1,
        )  # fmt: skip
        right = _subtree(
            columns, strides, permutation, first + half, count - half, channels, within, own,
            parameters, NARROW, COMBINE, LIFT, STATE, LEVEL - 1,
        )  # fmt: skip
        return _merge(left, right, count > half, COMBINE)


# The number of tasks differs from batch to batch and must not make Triton compile anew.
@triton.jit(do_not_specialize=["m"])
def segment_fold_kernel(
    columns,  # [n, d] or [n, 1] each
    strides,  # of columns, two each
    permutation,  # int64, or None
    own,  # [S, d] or [S, 1] each
    own_strides,
    parameters,  # numbers, on the device
    outputs,  # contiguous [·, d] or [·, 1] each
    first_ptr,  # int64 [m]
    size_ptr,  # int32 [m]
    owner_ptr,  # int64 [m]
    target_ptr,  # int64 [m]
    m,
    d,
    NARROW: tl.constexpr,
    NARROW_OWN: tl.constexpr,
    NARROW_OUT: tl.constexpr,
    IDENTITY: tl.constexpr,
    COMBINE: tl.constexpr,
    LIFT: tl.constexpr,
    LOWER: tl.constexpr,
    LEVELS: tl.constexpr,
    UNROLLED: tl.constexpr,
    TASKS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Fold ``TASKS`` subtrees of up to ``2**LEVELS`` places each, for ``BLOCK_D`` channels."""
    # int64 all the way: tasks, places and channels are multiplied by strides.
    task = tl.program_id(0).to(tl.int64) * TASKS + tl.arange(0, TASKS)
    channels = tl.program_id(1).to(tl.int64) * BLOCK_D + tl.arange(0, BLOCK_D)
    valid = task < m
    within = channels < d
    first = tl.load(first_ptr + task, mask=valid, other=0)
    count = tl.load(size_ptr + task, mask=valid, other=0)
    target = tl.load(target_ptr + task, mask=valid, other=0)

    mine = ()
    if len(NARROW_OWN) > 0:
        owner = tl.load(owner_ptr + task, mask=valid, other=0)
        mine = _load(own, own_strides, owner, valid, channels, within, NARROW_OWN)
    numbers = ()
    for j in tl.static_range(len(parameters)):
        numbers = numbers + (tl.load(parameters[j]),)

    if LEVELS <= UNROLLED:
        state = _subtree(
            columns, strides, permutation, first, count, channels, within, mine, numbers,
            NARROW, COMBINE, LIFT, len(IDENTITY), LEVELS,
        )  # fmt: skip
    else:
        # Of no element: what the stack begins with is of the right type, and never read.
        blank = _subtree(
            columns, strides, permutation, first, count * 0, channels, within, mine, numbers,
            NARROW, COMBINE, LIFT, len(IDENTITY), 0,
        )  # fmt: skip
        stack = ()
        for _ in tl.static_range(LEVELS - UNROLLED + 1):
            stack = stack + (blank,)
        number = 0
        end = tl.reduce(count, 0, _larger)
        while (number << UNROLLED) < end:
            done = number << UNROLLED
            part = _subtree(
                columns, strides, permutation, first + done, count - done, channels, within, mine,
                numbers, NARROW, COMBINE, LIFT, len(IDENTITY), UNROLLED,
            )  # fmt: skip
            stack = _push(stack, part, number, count, UNROLLED, COMBINE)
            number += 1
        state = _pop(stack, number, count, UNROLLED, COMBINE)
    occupied = (count > 0)[:, None]
    result = ()
    for j in tl.static_range(len(IDENTITY)):
        result = result + (tl.where(occupied, state[j], IDENTITY[j]),)
    if LOWER is not None:
        result = (LOWER(*result),)
    for j in tl.static_range(len(NARROW_OUT)):
        if NARROW_OUT[j]:
            # Each block of channels has the same number; the first of them writes it.
            at = outputs[j] + target[:, None] + channels[None, :] * 0
            alone = valid[:, None] & (channels == 0)[None, :]
            tl.store(at, tl.broadcast_to(result[j], at.shape), mask=alone)
        else:
            at = outputs[j] + (target * d)[:, None] + channels[None, :]
            tl.store(at, result[j], mask=valid[:, None] & within[None, :])
