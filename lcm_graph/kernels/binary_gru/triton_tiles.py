"""What one program does to one tile: some pairs of a level, and a block of channels.

Values are in the dtype of the elements where they are stored or multiplied, in ``ACC`` in between.
Row numbers and offsets of rows are int64. Nothing here depends on where in a tile a pair lies, nor
on the other pairs of the tile, so that a set's result does not depend on its company.
"""

# Triton gives arguments no types:
# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import triton
import triton.language as tl

# Not tl.zeros, tl.sum and the like: Triton's interpreter cannot run them if Triton was imported
# before TRITON_INTERPRET was set.


@triton.jit
def zeros(ROWS: tl.constexpr, COLUMNS: tl.constexpr, ACC: tl.constexpr):
    return tl.full((ROWS, COLUMNS), 0, ACC)


@triton.jit
def add(a, b):
    return a + b


@triton.jit
def dot(a, b, acc, PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    """``acc + a @ b``."""
    if UPCAST:  # Triton's interpreter takes the bits of bfloat16 for integers
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision=PRECISION, out_dtype=acc.dtype)


@triton.jit
def sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def tanh(x):
    e = tl.exp(-2 * tl.abs(x))  # never above 1
    y = (1 - e) / (1 + e)
    return tl.where(x < 0, -y, y)


@triton.jit
def operands(left, right, pair, end):
    """Rows of the operands of pairs ``pair`` (int64 ``[BM]``), and which of them are before end."""
    live = pair < end
    return tl.load(left + pair, live, other=0), tl.load(right + pair, live, other=0), live


@triton.jit
def load(source, stride, rows, n, live, D: tl.constexpr):
    """``source[rows, n]``, zero where there is no such pair or channel."""
    mask = live[:, None] & (n < D)[None, :]
    return tl.load(source + rows[:, None] * stride + n[None, :], mask, other=0)


@triton.jit
def store(target, stride, rows, n, values, live, D: tl.constexpr):
    mask = live[:, None] & (n < D)[None, :]
    tl.store(target + rows[:, None] * stride + n[None, :], values, mask)


@triton.jit
def gates(
    source, stride, rows_a, rows_b, live, n, w_sum, w_diff, w_new, bias, bias_new,
    D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    ACC: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Both orders' reset, update and new gates and hidden halves ``[BM, BN]``, channels ``n``."""
    u_reset = zeros(BM, BN, ACC)
    u_update = zeros(BM, BN, ACC)
    v_reset = zeros(BM, BN, ACC)
    v_update = zeros(BM, BN, ACC)
    in_a = zeros(BM, BN, ACC)
    in_b = zeros(BM, BN, ACC)
    hidden_a = zeros(BM, BN, ACC)
    hidden_b = zeros(BM, BN, ACC)
    here = n < D
    for start in range(0, D, BK):
        k = start + tl.arange(0, BK)
        a = load(source, stride, rows_a, k, live, D)
        b = load(source, stride, rows_b, k, live, D)
        s = (a.to(ACC) + b.to(ACC)).to(a.dtype)
        t = (a.to(ACC) - b.to(ACC)).to(a.dtype)
        mask = (k < D)[:, None] & here[None, :]
        at = n[None, :] * D + k[:, None]  # transposed; the second gate lies D rows below
        first = tl.load(w_sum + at, mask, other=0)
        second = tl.load(w_sum + D * D + at, mask, other=0)
        u_reset = dot(s, first, u_reset, PRECISION, UPCAST)
        u_update = dot(s, second, u_update, PRECISION, UPCAST)
        first = tl.load(w_diff + at, mask, other=0)
        second = tl.load(w_diff + D * D + at, mask, other=0)
        v_reset = dot(t, first, v_reset, PRECISION, UPCAST)
        v_update = dot(t, second, v_update, PRECISION, UPCAST)
        first = tl.load(w_new + at, mask, other=0)
        second = tl.load(w_new + D * D + at, mask, other=0)
        in_a = dot(a, first, in_a, PRECISION, UPCAST)
        in_b = dot(b, first, in_b, PRECISION, UPCAST)
        hidden_a = dot(a, second, hidden_a, PRECISION, UPCAST)
        hidden_b = dot(b, second, hidden_b, PRECISION, UPCAST)
    u_reset += tl.load(bias + n, here, other=0).to(ACC)[None, :]
    u_update += tl.load(bias + D + n, here, other=0).to(ACC)[None, :]
    bias_in = tl.load(bias_new + n, here, other=0).to(ACC)[None, :]
    bias_hidden = tl.load(bias_new + D + n, here, other=0).to(ACC)[None, :]
    hidden_a += bias_hidden
    hidden_b += bias_hidden
    reset_ab = sigmoid(u_reset + v_reset)
    reset_ba = sigmoid(u_reset - v_reset)
    update_ab = sigmoid(u_update + v_update)
    update_ba = sigmoid(u_update - v_update)
    new_ab = tanh(in_a + bias_in + reset_ab * hidden_b)
    new_ba = tanh(in_b + bias_in + reset_ba * hidden_a)
    return reset_ab, reset_ba, update_ab, update_ba, new_ab, new_ba, hidden_a, hidden_b


@triton.jit
def combine(
    source, stride, nodes, base, left, right, first, end, block,
    w_sum, w_diff, w_new, bias, bias_new,
    D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    ACC: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Write rows ``base + first`` to ``base + end - 1`` of ``nodes``, at most ``BM`` of them."""
    pair = first + tl.arange(0, BM)
    rows_a, rows_b, live = operands(left, right, pair, end)
    n = block * BN + tl.arange(0, BN)
    _, _, update_ab, update_ba, new_ab, new_ba, _, _ = gates(
        source, stride, rows_a, rows_b, live, n, w_sum, w_diff, w_new, bias, bias_new,
        D, BM, BN, BK, ACC, PRECISION, UPCAST,
    )  # fmt: skip
    a = load(source, stride, rows_a, n, live, D).to(ACC)
    b = load(source, stride, rows_b, n, live, D).to(ACC)
    ab = new_ab + update_ab * (b - new_ab)
    ba = new_ba + update_ba * (a - new_ba)
    out = ((ab + ba) * 0.5).to(nodes.dtype.element_ty)
    store(nodes, D, base + pair, n, out, live, D)


@triton.jit
def gate_gradients(
    source, stride, nodes, base, left, right, first, end, block, scratch, scratch_start,
    w_sum, w_diff, w_new, bias, bias_new,
    D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    ACC: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """From the pairs' gradients, in ``nodes``, to those of the products, in ``scratch``.

    A row of scratch, one a pair, is ``[du | dv | dnew a | dnew b | direct a | direct b | a | b]``:
    the gradients of the products (``2 D`` each), what reaches an operand past them, and the
    operands, which :func:`input_gradients` may overwrite where they came from.
    """
    pair = first + tl.arange(0, BM)
    rows_a, rows_b, live = operands(left, right, pair, end)
    n = block * BN + tl.arange(0, BN)
    reset_ab, reset_ba, update_ab, update_ba, new_ab, new_ba, hidden_a, hidden_b = gates(
        source, stride, rows_a, rows_b, live, n, w_sum, w_diff, w_new, bias, bias_new,
        D, BM, BN, BK, ACC, PRECISION, UPCAST,
    )  # fmt: skip
    stored = scratch.dtype.element_ty
    row = pair - scratch_start
    a = load(source, stride, rows_a, n, live, D)
    b = load(source, stride, rows_b, n, live, D)
    store(scratch + 10 * D, 12 * D, row, n, a, live, D)
    store(scratch + 11 * D, 12 * D, row, n, b, live, D)
    half = load(nodes, D, base + pair, n, live, D).to(ACC) * 0.5
    store(scratch + 8 * D, 12 * D, row, n, (half * update_ba).to(stored), live, D)
    store(scratch + 9 * D, 12 * D, row, n, (half * update_ab).to(stored), live, D)
    # Before sigmoid and tanh:
    z_ab = half * (b.to(ACC) - new_ab) * update_ab * (1 - update_ab)
    z_ba = half * (a.to(ACC) - new_ba) * update_ba * (1 - update_ba)
    n_ab = half * (1 - update_ab) * (1 - new_ab * new_ab)
    n_ba = half * (1 - update_ba) * (1 - new_ba * new_ba)
    r_ab = n_ab * hidden_b * reset_ab * (1 - reset_ab)
    r_ba = n_ba * hidden_a * reset_ba * (1 - reset_ba)
    store(scratch, 12 * D, row, n, (r_ab + r_ba).to(stored), live, D)
    store(scratch + D, 12 * D, row, n, (z_ab + z_ba).to(stored), live, D)
    store(scratch + 2 * D, 12 * D, row, n, (r_ab - r_ba).to(stored), live, D)
    store(scratch + 3 * D, 12 * D, row, n, (z_ab - z_ba).to(stored), live, D)
    store(scratch + 4 * D, 12 * D, row, n, n_ab.to(stored), live, D)
    store(scratch + 5 * D, 12 * D, row, n, (n_ba * reset_ba).to(stored), live, D)
    store(scratch + 6 * D, 12 * D, row, n, n_ba.to(stored), live, D)
    store(scratch + 7 * D, 12 * D, row, n, (n_ab * reset_ab).to(stored), live, D)


@triton.jit
def input_gradients(
    target, to_left, to_right, first, end, block, scratch, scratch_start, w_sum, w_diff, w_new,
    D: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr, BK: tl.constexpr,
    ACC: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Write the operands' gradients, from ``scratch`` to rows ``to_left``, ``to_right`` of target.

    ``target`` has rows of ``D``.
    """
    pair = first + tl.arange(0, BM)
    rows_a, rows_b, live = operands(to_left, to_right, pair, end)
    row = pair - scratch_start
    n = block * BC + tl.arange(0, BC)
    of_sum = zeros(BM, BC, ACC)
    of_diff = zeros(BM, BC, ACC)
    of_a = zeros(BM, BC, ACC)
    of_b = zeros(BM, BC, ACC)
    for start in range(0, 2 * D, BK):
        k = start + tl.arange(0, BK)
        mask = (k < 2 * D)[:, None] & (n < D)[None, :]
        at = k[:, None] * D + n[None, :]
        w = tl.load(w_sum + at, mask, other=0)
        of_sum = dot(load(scratch, 12 * D, row, k, live, 2 * D), w, of_sum, PRECISION, UPCAST)
        w = tl.load(w_diff + at, mask, other=0)
        du = load(scratch + 2 * D, 12 * D, row, k, live, 2 * D)
        of_diff = dot(du, w, of_diff, PRECISION, UPCAST)
        w = tl.load(w_new + at, mask, other=0)
        du = load(scratch + 4 * D, 12 * D, row, k, live, 2 * D)
        of_a = dot(du, w, of_a, PRECISION, UPCAST)
        du = load(scratch + 6 * D, 12 * D, row, k, live, 2 * D)
        of_b = dot(du, w, of_b, PRECISION, UPCAST)
    of_a += load(scratch + 8 * D, 12 * D, row, n, live, D).to(ACC)
    of_b += load(scratch + 9 * D, 12 * D, row, n, live, D).to(ACC)
    stored = target.dtype.element_ty
    store(target, D, rows_a, n, (of_sum + of_diff + of_a).to(stored), live, D)
    store(target, D, rows_b, n, (of_sum - of_diff + of_b).to(stored), live, D)
