"""The closed forms of monoids as kernels: formulas of their states, and gradients of any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lcm_graph.kernels.availability import uses_triton
from lcm_graph.kernels.backend import note
from lcm_graph.kernels.gradient_mode import is_differentiated_again
from lcm_graph.kernels.segment import cpu_formulas
from lcm_graph.kernels.segment.cpu_chunks import Batch as CpuBatch
from lcm_graph.kernels.segment.formula import Formula, Grads, Sets, Tensors, sets_of_places
from lcm_graph.monoids import (
    LogSumExp,
    Max,
    Mean,
    MeanState,
    Min,
    Moments,
    MomentsState,
    Monoid,
    Softmax,
    SoftmaxState,
    State,
    Sum,
)
from lcm_graph.monoids.state import leaves, take

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
CPU_ABOVE = 1 << 17
"""Numbers in the elements from which on a CPU's formulas are quicker than torch's scatters."""


class _Fold(torch.autograd.Function):
    """A formula whose gradient, if that is differentiated, is that of another closed form."""

    @staticmethod
    def forward(
        ctx: Any, formula: Formula, batch: Any, closed: Callable[..., Tensors], *inputs: Tensor
    ) -> Tensors:
        ctx.set_materialize_grads(False)
        ctx.formula, ctx.batch, ctx.closed = formula, batch, closed
        outputs, kept = formula.forward(batch, tuple(x.detach() for x in inputs))
        if formula.linear:
            ctx.inputs = [x.new_zeros(()).expand_as(x) for x in inputs]  # for their shapes
            ctx.save_for_backward()
        else:
            ctx.inputs = None
            ctx.save_for_backward(*inputs, *kept)
        ctx.count = len(inputs)
        ctx.mark_non_differentiable(*outputs[: formula.constant])
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors if ctx.inputs is None else ctx.inputs
        inputs, kept = saved[: ctx.count], saved[ctx.count :]
        grads = grads[ctx.formula.constant :]
        if all(grad is None for grad in grads):
            return (None,) * (3 + ctx.count)
        if is_differentiated_again(grads):
            found = _differentiable(ctx.closed, ctx.formula, inputs, grads)
        else:
            dense = tuple(None if grad is None else grad.contiguous() for grad in grads)
            found = ctx.formula.backward(ctx.batch, tuple(inputs), tuple(kept), dense)
        return (None, None, None, *found)


def _differentiable(
    closed: Callable[..., Tensors], formula: Formula, inputs: Any, grads: Grads
) -> tuple[Tensor | None, ...]:
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # Aliases: hooks of the tensors themselves are to run once, when this gradient is done.
        aliases = [x.view_as(x) if x.requires_grad else x.detach().requires_grad_() for x in inputs]
        outputs = closed(*aliases)[formula.constant :]
    pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if g is not None]
    return torch.autograd.grad(
        [o for o, _ in pairs],
        aliases,
        [g for _, g in pairs],
        create_graph=create_graph,
        allow_unused=True,
    )


def _fold(
    name: str,
    monoid: Monoid,
    sets: Sets,
    inputs: Tensors,
    state: Callable[..., State] = lambda x: x,
    outputs: Callable[[State], Tensors] = lambda state: tuple(leaves(state)),
) -> Tensors | None:
    """The formula ``name`` of ``inputs``, that make a ``state``; ``None`` if not for these."""
    first = inputs[0]
    like = first.device, first.dtype, first.shape
    if any((x.device, x.dtype, x.shape) != like for x in inputs) or first.dtype not in DTYPES:
        return None
    if first.layout != torch.strided or first.dim() == 0:
        return None
    if not first.numel() * sets.num_elements:
        return None
    gathered = sets.rows is not None and sets.index is None
    if not gathered and first.size(0) != sets.num_elements:
        return None
    if uses_triton(first.device):
        from lcm_graph.kernels.segment.triton_formulas import FORMULAS, TritonBatch

        formula, backend = FORMULAS[name], "triton"
        batch: Any = TritonBatch(sets)
    elif first.device.type == "cpu" and first.numel() >= CPU_ABOVE:
        formula, backend = cpu_formulas.FORMULAS[name], "torch"
        batch = CpuBatch(sets, first.numel() // first.size(0))
    else:
        return None
    note(f"segment_{name}/{backend}")

    def closed(*flat: Tensor) -> Tensors:
        elements = state(*flat)
        if sets.index is not None:
            return outputs(monoid.segment(elements, sets.index, sets.num_sets))
        if sets.rows is not None:
            elements = take(elements, sets.rows)
        return outputs(monoid.segment(elements, sets_of_places(sets), sets.num_sets))

    flat = [x.reshape(x.size(0), -1).contiguous() for x in inputs]
    found = _Fold.apply(formula, batch, closed, *flat)
    return tuple(out.view(sets.num_sets, *first.shape[1:]) for out in found)


def _is_constant(x: Tensor, value: float) -> bool:
    """Whether all of ``x`` is ``value``; told at once where ``x`` is one number, expanded."""
    if x.requires_grad or x.numel() == 0:
        return False
    expanded = all(stride == 0 or n == 1 for stride, n in zip(x.stride(), x.shape, strict=True))
    if expanded:
        return float(x[(0,) * x.dim()]) == value
    return bool((x == value).all())


def segment_sum(monoid: Sum, state: Tensor, sets: Sets) -> Tensor | None:
    found = _fold("sum", monoid, sets, (state,))
    return None if found is None else found[0]


def segment_max(monoid: Max, state: Tensor, sets: Sets) -> Tensor | None:
    found = _fold("max", monoid, sets, (state,))
    return None if found is None else found[0]


def segment_min(monoid: Min, state: Tensor, sets: Sets) -> Tensor | None:
    found = _fold("min", monoid, sets, (state,))
    return None if found is None else found[0]


def segment_logsumexp(monoid: LogSumExp, state: Tensor, sets: Sets) -> Tensor | None:
    found = _fold("logsumexp", monoid, sets, (state,))
    return None if found is None else found[0]


def segment_mean(monoid: Mean, state: MeanState, sets: Sets) -> MeanState | None:
    """Of elements that count once, as they are lifted."""
    if not _is_constant(state.size, 1):
        return None
    mean, size = state
    found = _fold(
        "mean", monoid, sets, (mean,), lambda x: MeanState(x, size), lambda out: (out.mean,)
    )
    return None if found is None else MeanState(found[0], _sizes(sets, size))


def segment_moments(monoid: Moments, state: MomentsState, sets: Sets) -> MomentsState | None:
    """Of elements that count once and vary by nothing, as they are lifted."""
    size, mean, m2 = state
    if not (_is_constant(size, 1) and _is_constant(m2, 0)):
        return None
    zero = m2[:1, :1]
    found = _fold(
        "moments",
        monoid,
        sets,
        (mean,),
        lambda x: MomentsState(size, x, zero.expand_as(x)),
        lambda out: (out.mean, out.m2),
    )
    return None if found is None else MomentsState(_sizes(sets, size), *found)


def segment_softmax(monoid: Softmax, state: SoftmaxState, sets: Sets) -> SoftmaxState | None:
    """Of elements that are weighed by their logits alone, as they are lifted."""
    logits, norm, total = state
    if not _is_constant(norm, 1):
        return None
    one = norm[:1, :1]
    found = _fold(
        "softmax",
        monoid,
        sets,
        (logits, total),
        lambda logits, x: SoftmaxState(logits, one.expand_as(x), x),
    )
    return None if found is None else SoftmaxState(*found)


def _sizes(sets: Sets, like: Tensor) -> Tensor:
    return sets.ptr.diff().to(like.dtype).unsqueeze(1)


KERNELS: dict[type[Monoid], Callable[[Any, Any, Sets], State | None]] = {
    Sum: segment_sum,
    Mean: segment_mean,
    Max: segment_max,
    Min: segment_min,
    LogSumExp: segment_logsumexp,
    Softmax: segment_softmax,
    Moments: segment_moments,
}
"""What folds the sets of a monoid's states, given ``(monoid, state, sets)``, where it applies."""
