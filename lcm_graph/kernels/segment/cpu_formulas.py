"""Closed forms on a CPU: a few reads of the elements, and nothing of their size written between."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_graph.kernels.segment.cpu_bags import NARROW, Bags, wide
from lcm_graph.kernels.segment.cpu_chunks import Batch, Chunk
from lcm_graph.kernels.segment.formula import Formula, Grads, Tensors
from lcm_graph.monoids.segment import finite_shift


def _added(batch: Batch, x: Tensor) -> Tensor:
    """The sum of each set, in float32 at least."""
    if x.dtype not in NARROW:
        return batch.bags.sum(x, batch.sets.rows)
    out = batch.by_set.sums(lambda c: (c.widened(x),), x.size(1))
    return out[0]


def _to_rows(batch: Batch, x: Tensor, grad: Tensor) -> Tensor:
    """``grad [S, channels]`` for each element, added up where a row of ``x`` repeats."""
    order = batch.by_row(x.size(0))
    if order.bags is None:
        # A quarter quicker than index_select where the result is new memory.
        return grad.to(x.dtype).gather(0, order.sets.unsqueeze(1).expand(-1, x.size(1)))
    return order.bags.sum(grad.to(wide(x.dtype)), order.sets).to(x.dtype)


def _sum(batch: Batch, inputs: Tensors) -> tuple[Tensors, Tensors]:
    return (_added(batch, inputs[0]).to(inputs[0].dtype),), ()


def _sum_backward(batch: Batch, inputs: Tensors, kept: Tensors, grads: Grads) -> Tensors:
    assert grads[0] is not None
    return (_to_rows(batch, inputs[0], grads[0]),)


def _mean(batch: Batch, inputs: Tensors) -> tuple[Tensors, Tensors]:
    return (_added(batch, inputs[0]).div_(batch.sizes).to(inputs[0].dtype),), ()


def _mean_backward(batch: Batch, inputs: Tensors, kept: Tensors, grads: Grads) -> Tensors:
    assert grads[0] is not None
    return (_to_rows(batch, inputs[0], grads[0].to(wide(grads[0].dtype)) / batch.sizes),)


def _extremum(which: str) -> Formula:
    identity = -torch.inf if which == "amax" else torch.inf

    def forward(batch: Batch, inputs: Tensors) -> tuple[Tensors, Tensors]:
        out = batch.bags.extremum(inputs[0], batch.sets.rows, which)
        return (out,), (out,)

    def backward(batch: Batch, inputs: Tensors, kept: Tensors, grads: Grads) -> Tensors:
        (x,), (out,), (grad,) = inputs, kept, grads
        assert grad is not None

        def is_tied(c: Chunk) -> Tensor:
            of_set = c.of_set(out, 0)
            return torch.eq(c.elements(x, 1), of_set, out=c.buffer(0, x, wide(x.dtype)))

        (count,) = batch.by_set.sums(lambda c: (is_tied(c),), x.size(1))
        share = grad / count.add_(out == identity)  # it began with the identity: one more to tie
        return batch.gradients(lambda c: (is_tied(c).mul_(c.of_set(share, 1)),), inputs)

    return Formula(forward, backward)


def _exp(c: Chunk, x: Tensor, shift: Tensor, slot: int = 0) -> Tensor:
    """exp(x - the set's shift), in ``slot``; the next one is free again."""
    of_set = c.of_set(shift, slot)
    return torch.sub(c.elements(x, slot + 1), of_set, out=of_set).exp_()


def _logsumexp(batch: Batch, inputs: Tensors) -> tuple[Tensors, Tensors]:
    (x,) = inputs
    maximum = batch.bags.extremum(x, batch.sets.rows, "amax")
    shift = finite_shift(maximum).to(wide(x.dtype))
    (total,) = batch.by_set.sums(lambda c: (_exp(c, x, shift),), x.size(1))
    out = total.log().add_(shift).masked_fill_(total == 0, -torch.inf)
    return (out.to(x.dtype),), (shift, total)


def _logsumexp_backward(batch: Batch, inputs: Tensors, kept: Tensors, grads: Grads) -> Tensors:
    (x,), (shift, total), (grad,) = inputs, kept, grads
    assert grad is not None
    weight = (grad / total).masked_fill_(total == 0, 0)
    return batch.gradients(lambda c: (_exp(c, x, shift).mul_(c.of_set(weight, 1)),), inputs)


def _softmax(batch: Batch, inputs: Tensors) -> tuple[Tensors, Tensors]:
    logits, x = inputs
    maximum = batch.bags.extremum(logits, batch.sets.rows, "amax")
    shift = finite_shift(maximum).to(wide(x.dtype))

    def terms(c: Chunk) -> Tensors:
        exp = _exp(c, logits, shift)
        return exp, torch.mul(c.elements(x, 2), exp, out=c.buffer(1, exp))

    norm, total = batch.by_set.sums(terms, x.size(1))
    return (maximum, norm.to(x.dtype), total.to(x.dtype)), (shift,)


def _softmax_backward(batch: Batch, inputs: Tensors, kept: Tensors, grads: Grads) -> Tensors:
    (logits, x), (shift,) = inputs, kept
    of_norm, of_total = (torch.zeros_like(shift) if g is None else g.to(shift.dtype) for g in grads)

    def terms(c: Chunk) -> Tensors:
        of_exp = c.of_set(of_norm, 0)
        of_sum = c.of_set(of_total, 1)
        of_exp.addcmul_(c.elements(x, 2).to(of_exp.dtype), of_sum)
        exp = _exp(c, logits, shift, 2)
        return of_exp.mul_(exp), of_sum.mul_(exp)

    return batch.gradients(terms, inputs)


def _near(batch: Batch, x: Tensor) -> Tensor:
    """The mean of each set, up to the rounding of short sums."""
    if x.dtype in NARROW:
        return _added(batch, x) / batch.sizes
    short = Bags(batch.sets.ptr, batch.sets.num_elements, 512)
    return short.sum(x, batch.sets.rows).div_(batch.sizes)


def _moments(batch: Batch, inputs: Tensors) -> tuple[Tensors, Tensors]:
    # Around a value close to the mean: sums of numbers far from 0 lose their last digits.
    (x,) = inputs
    near = _near(batch, x)

    def terms(c: Chunk) -> Tensors:
        of_set = c.of_set(near, 0)
        deviation = torch.sub(c.elements(x, 1), of_set, out=of_set)
        return deviation, torch.square(deviation, out=c.buffer(1, near))

    shift, m2 = batch.by_set.sums(terms, x.size(1))
    shift /= batch.sizes
    m2 -= shift.square() * batch.sizes
    return ((near + shift).to(x.dtype), m2.to(x.dtype)), (near, shift)


def _moments_backward(batch: Batch, inputs: Tensors, kept: Tensors, grads: Grads) -> Tensors:
    (x,), (near, shift), (of_mean, of_m2) = inputs, kept, grads
    constant = torch.zeros_like(shift) if of_mean is None else of_mean.to(shift.dtype) / batch.sizes
    if of_m2 is None:
        return (_to_rows(batch, x, constant),)
    slope = 2 * of_m2.to(shift.dtype)
    constant = constant - slope * shift

    def terms(c: Chunk) -> Tensors:
        of_set = c.of_set(near, 1)
        deviation = torch.sub(c.elements(x, 2), of_set, out=of_set)
        return (c.of_set(constant, 0).addcmul_(deviation, c.of_set(slope, 2)),)

    return batch.gradients(terms, inputs)


FORMULAS = {
    "sum": Formula(_sum, _sum_backward, linear=True),
    "mean": Formula(_mean, _mean_backward, linear=True),
    "max": _extremum("amax"),
    "min": _extremum("amin"),
    "logsumexp": Formula(_logsumexp, _logsumexp_backward),
    "softmax": Formula(_softmax, _softmax_backward, constant=1),
    "moments": Formula(_moments, _moments_backward),
}
