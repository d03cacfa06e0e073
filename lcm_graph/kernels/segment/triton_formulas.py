"""The closed forms by Triton's reductions, as :mod:`closed_forms` asks for them."""

from __future__ import annotations

import torch

from lcm_graph.kernels.segment import backward, triton_closed_forms
from lcm_graph.kernels.segment.formula import Formula, Grads, Sets, Tensors
from lcm_graph.kernels.segment.tasks import Segments, plan, transpose
from lcm_graph.kernels.segment.triton_reduce import accumulator


class TritonBatch:
    """The sets of one call; what they are planned to is kept with them."""

    def __init__(self, sets: Sets) -> None:
        self.derived = sets.derived
        if "segments" not in self.derived:
            self.derived["segments"] = plan(sets.ptr, sets.rows, bound=sets.num_elements)
        self.segments: Segments = self.derived["segments"]
        self.sizes = sets.ptr.diff().clamp_min_(1).unsqueeze(1)

    def by_row(self, num_rows: int) -> Segments:
        """For each row of the state, the sets that hold it."""
        if "segments_by_row" not in self.derived:
            self.derived["segments_by_row"] = transpose(self.segments, num_rows)
        by_row: Segments = self.derived["segments_by_row"]
        return by_row


def _sum(batch: TritonBatch, inputs: Tensors) -> tuple[Tensors, Tensors]:
    return (triton_closed_forms.segment_sum(inputs[0], batch.segments),), ()


def _sum_backward(batch: TritonBatch, inputs: Tensors, kept: Tensors, grads: Grads) -> Tensors:
    ((x,), (grad,)) = inputs, grads
    assert grad is not None
    return (backward.sum_backward(grad, batch.by_row(x.size(0)), x.dtype),)


def _mean(batch: TritonBatch, inputs: Tensors) -> tuple[Tensors, Tensors]:
    mean, _ = triton_closed_forms.segment_mean(inputs[0], batch.segments)
    return (mean,), ()


def _mean_backward(batch: TritonBatch, inputs: Tensors, kept: Tensors, grads: Grads) -> Tensors:
    ((x,), (grad,)) = inputs, grads
    assert grad is not None
    wide = grad.to(accumulator(grad.dtype))
    return (backward.mean_backward(wide, batch.sizes, batch.by_row(x.size(0)), x.dtype),)


def _extremum(largest: bool) -> Formula:
    reduce = triton_closed_forms.segment_max if largest else triton_closed_forms.segment_min

    def forward(batch: TritonBatch, inputs: Tensors) -> tuple[Tensors, Tensors]:
        out = reduce(inputs[0], batch.segments)
        return (out,), (out,)

    def back(batch: TritonBatch, inputs: Tensors, kept: Tensors, grads: Grads) -> Tensors:
        ((x,), (out,), (grad,)) = inputs, kept, grads
        assert grad is not None
        by_row = batch.by_row(x.size(0))
        return (backward.extremum_backward(grad, x, out, batch.segments, by_row),)

    return Formula(forward, back)


def _logsumexp(batch: TritonBatch, inputs: Tensors) -> tuple[Tensors, Tensors]:
    (x,) = inputs
    out = triton_closed_forms.segment_logsumexp(x, batch.segments, accumulator(x.dtype))
    return (out.to(x.dtype),), (out,)


def _logsumexp_backward(
    batch: TritonBatch, inputs: Tensors, kept: Tensors, grads: Grads
) -> Tensors:
    ((x,), (out,), (grad,)) = inputs, kept, grads
    assert grad is not None
    return (backward.logsumexp_backward(grad, x, out, batch.by_row(x.size(0))),)


def _softmax(batch: TritonBatch, inputs: Tensors) -> tuple[Tensors, Tensors]:
    logits, x = inputs
    maximum, norm, total = triton_closed_forms.segment_attention(
        x, logits, batch.segments, accumulator(x.dtype)
    )
    return (maximum.to(x.dtype), norm.to(x.dtype), total.to(x.dtype)), (maximum,)


def _softmax_backward(batch: TritonBatch, inputs: Tensors, kept: Tensors, grads: Grads) -> Tensors:
    ((logits, x), (maximum,)) = inputs, kept
    of_norm, of_total = (torch.zeros_like(maximum) if g is None else g for g in grads)
    by_row = batch.by_row(x.size(0))
    grad_x, grad_logits = backward.softmax_backward(of_norm, of_total, x, logits, maximum, by_row)
    return grad_logits, grad_x


def _moments(batch: TritonBatch, inputs: Tensors) -> tuple[Tensors, Tensors]:
    (x,) = inputs
    wide = accumulator(x.dtype)
    _, mean, m2 = triton_closed_forms.segment_moments(x, batch.segments, wide)
    return (mean.to(x.dtype), m2.to(x.dtype)), (mean,)


def _moments_backward(batch: TritonBatch, inputs: Tensors, kept: Tensors, grads: Grads) -> Tensors:
    ((x,), (mean,)) = inputs, kept
    of_mean, of_m2 = (torch.zeros_like(mean) if g is None else g.to(mean.dtype) for g in grads)
    by_row = batch.by_row(x.size(0))
    return (backward.moments_backward(of_mean, of_m2, x, batch.sizes, mean, by_row),)


FORMULAS = {
    "sum": Formula(_sum, _sum_backward, linear=True),
    "mean": Formula(_mean, _mean_backward, linear=True),
    "max": _extremum(largest=True),
    "min": _extremum(largest=False),
    "logsumexp": Formula(_logsumexp, _logsumexp_backward),
    "softmax": Formula(_softmax, _softmax_backward, constant=1),
    "moments": Formula(_moments, _moments_backward),
}
