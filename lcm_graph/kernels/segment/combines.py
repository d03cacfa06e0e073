"""Lifts, combines and lowers of the closed-form monoids, as Triton functions on tiles.

A tile is [P, BD]: P sets or elements by BD channels; a number a set is [P, 1]. What each state
holds, and the papers its merging is from, are said in :mod:`lcm_graph.monoids`.
"""

# mypy: allow-untyped-defs
# Operands have Triton's types, which a checker does not know.

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def add(a, b):
    return a + b


@triton.jit
def maximum(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def minimum(a, b):
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _ones(x):
    return tl.full([x.shape[0]], 1, x.dtype)[:, None]


@triton.jit
def _divide(a, b):
    """``a / b`` to the last bit; ``/`` of float32 is not on every GPU."""
    return tl.div_rn(a, b) if a.dtype == tl.float32 else a / b


# Mean: (mean, size [P, 1]) -------------------------------------------------------------------


@triton.jit
def lift_mean(x):
    return x, _ones(x)


@triton.jit
def combine_mean(mean_a, size_a, mean_b, size_b):
    size = tl.maximum(size_a + size_b, 1)  # 0 only where both are absent
    return mean_a * _divide(size_a, size) + mean_b * _divide(size_b, size), size


# Moments: (size [P, 1], mean, sum of squared deviations) -------------------------------------


@triton.jit
def lift_moments(x):
    return _ones(x), x, tl.full(x.shape, 0, x.dtype)


@triton.jit
def combine_moments(size_a, mean_a, m2_a, size_b, mean_b, m2_b):
    size = tl.maximum(size_a + size_b, 1)  # 0 only where both are absent
    share = _divide(size_b, size)
    delta = mean_b - mean_a
    # From one mean towards the other: weighing them both would round each of them anew.
    mean = mean_a + delta * share
    return size, mean, m2_a + m2_b + delta * delta * (size_a * share)


# Log-sum-exp and softmax: a running maximum, and sums scaled by its exponential --------------


@triton.jit
def _scales(maximum_a, maximum_b):
    """The larger maximum, and what sums scaled by each maximum are multiplied by to use it."""
    larger = maximum(maximum_a, maximum_b)
    # An infinite maximum is not subtracted: inf - inf is no number.
    shift = tl.where(tl.abs(larger) == float("inf"), 0.0, larger)
    return larger, tl.exp(maximum_a - shift), tl.exp(maximum_b - shift)


@triton.jit
def lift_logsumexp(x):
    return x, tl.full(x.shape, 1, x.dtype)


@triton.jit
def combine_logsumexp(maximum_a, norm_a, maximum_b, norm_b):
    larger, scale_a, scale_b = _scales(maximum_a, maximum_b)
    return larger, norm_a * scale_a + norm_b * scale_b


@triton.jit
def lower_logsumexp(largest, norm):
    # The norm is 0 only beside a maximum of -inf.
    return largest + tl.log(tl.where(norm == 0, 1.0, norm))


@triton.jit
def lift_softmax(x, temperature):
    scaled = x * temperature.to(x.dtype)
    return scaled, tl.full(x.shape, 1, x.dtype), x


@triton.jit
def lift_weighted(x, logits):
    return logits, tl.full(logits.shape, 1, logits.dtype), x


@triton.jit
def combine_softmax(maximum_a, norm_a, total_a, maximum_b, norm_b, total_b):
    larger, scale_a, scale_b = _scales(maximum_a, maximum_b)
    norm = norm_a * scale_a + norm_b * scale_b
    return larger, norm, total_a * scale_a + total_b * scale_b


# Gradients: what a set contributes to that of a row x it holds ---------------------------------


@triton.jit
def combine_pair(a0, a1, b0, b1):
    return a0 + b0, a1 + b1


@triton.jit
def lift_equal(extremum, x):
    return (x == extremum).to(x.dtype)


@triton.jit
def lift_extremum_gradient(x, share, extremum):
    return tl.where(x == extremum, share, 0.0)


@triton.jit
def lift_moments_gradient(x, share, grad_m2, mean):
    return share + 2 * grad_m2 * (x - mean)


@triton.jit
def lift_logsumexp_gradient(x, grad, out):
    return grad * _weight(x, out)


@triton.jit
def _weight(logits, maximum):
    """``exp(logits - maximum)``, and 0 for logits of -inf also where the maximum is that."""
    return tl.where(logits == -float("inf"), 0.0, tl.exp(logits - maximum))


@triton.jit
def lift_softmax_gradient(logits, x, grad_norm, grad_total, maximum):
    """Of norm and total, whatever is made of them, to logits and x."""
    shift = tl.where(tl.abs(maximum) == float("inf"), 0.0, maximum)
    weight = tl.exp(logits - shift)
    return weight * (grad_norm + grad_total * x), weight * grad_total
