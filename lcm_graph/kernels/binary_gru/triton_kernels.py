"""The kernels of the fold and of its backward pass; what they do to a tile is in triton_tiles.

All take the tree's pairs by their number, and start and end of the pairs they are to do.
"""

# Triton gives arguments no types:
# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import triton
import triton.language as tl

from lcm_graph.kernels.binary_gru.triton_tiles import (
    add,
    combine,
    dot,
    gate_gradients,
    input_gradients,
    load,
    zeros,
)

# Integers that differ from level to level must not make Triton compile anew.
_LEVEL = ["base", "start", "end", "scratch_start"]
_JOINED = ["base", "levels", "groups", "scratch_start"]


@triton.jit(do_not_specialize=_LEVEL)
def level_fwd(
    source, stride, nodes, base, left, right, start, end, w_sum, w_diff, w_new, bias, bias_new,
    D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    ACC: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Combine pairs of one level: a program takes ``BM`` of them and ``BN`` channels."""
    # Programs that gather the same rows follow each other.
    blocks: tl.constexpr = (D + BN - 1) // BN
    first = start + (tl.program_id(0) // blocks).to(tl.int64) * BM
    combine(
        source, stride, nodes, base, left, right, first, end, tl.program_id(0) % blocks,
        w_sum, w_diff, w_new, bias, bias_new, D, BM, BN, BK, ACC, PRECISION, UPCAST,
    )  # fmt: skip


@triton.jit(do_not_specialize=_JOINED)
def joined_fwd(
    nodes, base, left, right, bounds, levels, groups, w_sum, w_diff, w_new, bias, bias_new,
    D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    ACC: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Combine the pairs of several levels: a program takes a group of subtrees, level by level.

    Group g has pairs ``bounds[level, g]`` to ``bounds[level, g + 1] - 1`` of each level.
    """
    blocks: tl.constexpr = (D + BN - 1) // BN
    for level in range(levels):
        bound = bounds + level * (groups + 1) + tl.program_id(0)
        end = tl.load(bound + 1)
        for first in range(tl.load(bound), end, BM):
            for block in range(blocks):
                combine(
                    nodes, D, nodes, base, left, right, first, end, block,
                    w_sum, w_diff, w_new, bias, bias_new,
                    D, BM, BN, BK, ACC, PRECISION, UPCAST,
                )  # fmt: skip
        tl.debug_barrier()  # the next level reads what this program's other threads wrote


@triton.jit(do_not_specialize=_LEVEL)
def level_bwd_gates(
    source, stride, nodes, base, left, right, start, end, scratch, scratch_start,
    w_sum, w_diff, w_new, bias, bias_new,
    D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    ACC: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Gradients before the gates' nonlinearities; programs as in :func:`level_fwd`."""
    blocks: tl.constexpr = (D + BN - 1) // BN
    first = start + (tl.program_id(0) // blocks).to(tl.int64) * BM
    gate_gradients(
        source, stride, nodes, base, left, right, first, end, tl.program_id(0) % blocks,
        scratch, scratch_start, w_sum, w_diff, w_new, bias, bias_new,
        D, BM, BN, BK, ACC, PRECISION, UPCAST,
    )  # fmt: skip


@triton.jit(do_not_specialize=_LEVEL, do_not_specialize_on_alignment=["to_left", "to_right"])
def level_bwd_inputs(
    target, to_left, to_right, start, end, scratch, scratch_start, w_sum, w_diff, w_new,
    D: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr, BK: tl.constexpr,
    ACC: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Gradients of the operands: a program takes ``BM`` pairs and ``BC`` channels."""
    blocks: tl.constexpr = (D + BC - 1) // BC
    first = start + (tl.program_id(0) // blocks).to(tl.int64) * BM
    input_gradients(
        target, to_left, to_right, first, end, tl.program_id(0) % blocks, scratch, scratch_start,
        w_sum, w_diff, w_new, D, BM, BC, BK, ACC, PRECISION, UPCAST,
    )  # fmt: skip


@triton.jit(do_not_specialize=_JOINED)
def joined_bwd(
    nodes, base, left, right, bounds, levels, groups, scratch, scratch_start,
    w_sum, w_diff, w_new, bias, bias_new,
    D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr, BK: tl.constexpr,
    ACC: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Both steps for several levels, from the top; groups as in :func:`joined_fwd`."""
    for below in range(levels):
        bound = bounds + (levels - 1 - below) * (groups + 1) + tl.program_id(0)
        start = tl.load(bound)
        end = tl.load(bound + 1)
        for first in range(start, end, BM):
            for block in range((D + BN - 1) // BN):
                gate_gradients(
                    nodes, D, nodes, base, left, right, first, end, block,
                    scratch, scratch_start, w_sum, w_diff, w_new, bias, bias_new,
                    D, BM, BN, BK, ACC, PRECISION, UPCAST,
                )  # fmt: skip
        tl.debug_barrier()
        for first in range(start, end, BM):
            for block in range((D + BC - 1) // BC):
                input_gradients(
                    nodes, left, right, first, end, block, scratch, scratch_start,
                    w_sum, w_diff, w_new, D, BM, BC, BK, ACC, PRECISION, UPCAST,
                )  # fmt: skip
        tl.debug_barrier()


@triton.jit(do_not_specialize=["count"])
def bwd_weights(
    scratch, count, partial, partial_bias,
    D: tl.constexpr, ROWS: tl.constexpr, BO: tl.constexpr, BI: tl.constexpr, BP: tl.constexpr,
    ACC: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Add to the weights' gradients those of ``ROWS`` of the ``count`` pairs in ``scratch``.

    Program ``(t, split)`` has tile ``t`` of the three matrices, and rows ``split * ROWS`` onwards.

    Args:
        partial: ``ACC [splits, 3, 2 D, D]``.
        partial_bias: ``ACC [splits, 2, 2 D]``.
    """
    tiles: tl.constexpr = (D + BI - 1) // BI
    split = tl.program_id(1).to(tl.int64)
    o = tl.program_id(0) // tiles * BO + tl.arange(0, BO)
    i = tl.program_id(0) % tiles * BI + tl.arange(0, BI)
    of_sum = zeros(BO, BI, ACC)
    of_diff = zeros(BO, BI, ACC)
    of_new = zeros(BO, BI, ACC)
    bias = zeros(BP, BO, ACC)
    bias_new = zeros(BP, BO, ACC)
    end = tl.minimum(split * ROWS + ROWS, count)
    for first in range(split * ROWS, end, BP):
        row = first + tl.arange(0, BP)
        live = row < end
        a = load(scratch + 10 * D, 12 * D, row, i, live, D)
        b = load(scratch + 11 * D, 12 * D, row, i, live, D)
        s = (a.to(ACC) + b.to(ACC)).to(a.dtype)
        t = (a.to(ACC) - b.to(ACC)).to(a.dtype)
        du = load(scratch, 12 * D, row, o, live, 2 * D)
        of_sum = dot(tl.trans(du), s, of_sum, PRECISION, UPCAST)
        bias += du.to(ACC)
        du = load(scratch + 2 * D, 12 * D, row, o, live, 2 * D)
        of_diff = dot(tl.trans(du), t, of_diff, PRECISION, UPCAST)
        du = load(scratch + 4 * D, 12 * D, row, o, live, 2 * D)
        of_new = dot(tl.trans(du), a, of_new, PRECISION, UPCAST)
        bias_new += du.to(ACC)
        du = load(scratch + 6 * D, 12 * D, row, o, live, 2 * D)
        of_new = dot(tl.trans(du), b, of_new, PRECISION, UPCAST)
        bias_new += du.to(ACC)
    at = partial + split * (6 * D * D) + o[:, None] * D + i[None, :]
    mask = (o < 2 * D)[:, None] & (i < D)[None, :]
    tl.store(at, tl.load(at, mask) + of_sum, mask)
    at += 2 * D * D
    tl.store(at, tl.load(at, mask) + of_diff, mask)
    at += 2 * D * D
    tl.store(at, tl.load(at, mask) + of_new, mask)
    if tl.program_id(0) % tiles == 0:
        at_bias = partial_bias + split * (4 * D) + o
        total = tl.reduce(bias, 0, add)
        tl.store(at_bias, tl.load(at_bias, o < 2 * D) + total, o < 2 * D)
        at_bias += 2 * D
        total = tl.reduce(bias_new, 0, add)
        tl.store(at_bias, tl.load(at_bias, o < 2 * D) + total, o < 2 * D)


@triton.jit
def sum_occurrences(
    values, order, ptr, out,
    D: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """``out[r] = sum(values[order[ptr[r]:ptr[r + 1]]])``, always added up in the same way."""
    blocks: tl.constexpr = (D + BC - 1) // BC
    r = (tl.program_id(0) // blocks).to(tl.int64)
    n = tl.program_id(0) % blocks * BC + tl.arange(0, BC)
    total = zeros(BP, BC, ACC)
    end = tl.load(ptr + r + 1)
    for first in range(tl.load(ptr + r), end, BP):
        place = first + tl.arange(0, BP)
        live = place < end
        rows = tl.load(order + place, live, other=0)
        total += load(values, D, rows, n, live, D).to(ACC)
    result = tl.reduce(total, 0, add).to(out.dtype.element_ty)
    tl.store(out + r * D + n, result, n < D)
