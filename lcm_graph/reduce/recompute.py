"""The fold with a backward pass that recomputes each combine from its saved operands.

Beside the input, a training fold holds the working copy and the left operands above level 0: one
and a half times its input, whatever the combine itself would have saved.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch._C._functorch import is_batchedtensor, is_legacy_batchedtensor
from torch.autograd.graph import get_gradient_edge

from lcm_graph.monoids import Monoid, State
from lcm_graph.monoids.state import leaves, map_state, num_elements, unflatten
from lcm_graph.reduce.by_autograd import Combine, fold_by_autograd
from lcm_graph.reduce.plan import FoldPlan
from lcm_graph.reduce.random_state import RandomStates
from lcm_graph.reduce.steps import Tape, cast_like, fold_in_place, rows_at_once, steps

Grads: TypeAlias = list[Tensor | None]


def fold_recomputed(monoid: Monoid, states: State, plan: FoldPlan) -> State:
    """Fold; gradients of any order flow to ``states`` and to the monoid's parameters."""
    named = gradient_tensors(monoid)
    inputs = (*leaves(states), *named.values())
    structure = map_state(lambda t: t.new_empty(0), states)
    outputs = _RecomputedFold.apply(monoid, plan, structure, tuple(named), *inputs)
    return unflatten(states, outputs)


def gradient_tensors(monoid: Monoid) -> dict[str, Tensor]:
    """The parameters and buffers of a monoid that need gradients, by name."""
    named = [*monoid.named_parameters(), *monoid.named_buffers()]
    return {name: tensor for name, tensor in named if tensor.requires_grad}


class _RecomputedFold(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        monoid: Monoid,
        plan: FoldPlan,
        structure: State,
        names: Sequence[str],
        *inputs: Tensor,
    ) -> tuple[Tensor, ...]:
        device = inputs[0].device
        tape = Tape(device)
        count = len(inputs) - len(names)
        roots = fold_in_place(monoid, unflatten(structure, inputs[:count]), plan, tape)
        outputs = tuple(leaves(roots))

        ctx.monoid, ctx.plan, ctx.structure = monoid, plan, structure
        ctx.names, ctx.count = names, count
        ctx.random = tape.random.trimmed()
        ctx.autocast = torch.autocast(
            device.type,
            dtype=torch.get_autocast_dtype(device.type),
            enabled=torch.is_autocast_enabled(device.type),
        )
        ctx.save_for_backward(*inputs, *tape.work, *tape.lefts)
        ctx.mark_non_differentiable(*(t for t in outputs if not _is_differentiable(t)))
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        with ctx.autocast, ctx.random.replay():
            # Gradients are enabled here if somebody will differentiate this gradient.
            # Nor can gradients that come in batches (`is_grads_batched`) be written in place.
            transformed = torch.is_grad_enabled() or any(
                is_batchedtensor(g) or is_legacy_batchedtensor(g) for g in grads
            )
            found = _by_autograd(ctx, grads) if transformed else _by_steps(ctx, grads)
        return (None, None, None, None, *found)


def _by_autograd(ctx: Any, grads: Sequence[Tensor]) -> Grads:
    """The gradient as a differentiable function: fold anew with a graph."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # Aliases: hooks of the tensors themselves are to run once, when this gradient is done.
        inputs = [t.view_as(t) for t in ctx.saved_tensors[: ctx.count + len(ctx.names)]]
    states = unflatten(ctx.structure, inputs[: ctx.count])
    combine = _substituted(ctx.monoid, ctx.names, inputs[ctx.count :])
    with torch.enable_grad():
        if ctx.random.states:
            combine = _replayed(combine, ctx.random, rows_at_once(states))
        outputs = leaves(fold_by_autograd(combine, states, ctx.plan))
    _check_graph(outputs, inputs, ctx.monoid)
    return _gradients(outputs, inputs, grads, create_graph)


def _replayed(combine: Combine, random: RandomStates, rows: int) -> Combine:
    """``combine`` in the pieces and with the random numbers of the fold in place."""
    number = itertools.count()

    def replay(left: State, right: State) -> State:
        parts = []
        for start in range(0, num_elements(left), rows):
            random.restore(next(number))
            parts.append(
                combine(*(map_state(lambda t: t[start : start + rows], s) for s in (left, right)))  # noqa: B023
            )
        return map_state(lambda *tensors: torch.cat(tensors), *parts)

    return replay


def _by_steps(ctx: Any, grads: Sequence[Tensor]) -> Grads:
    count, plan, structure = ctx.count, ctx.plan, ctx.structure
    saved = list(ctx.saved_tensors)
    states = saved[:count]
    # Leaves of their own: hooks of the parameters are to run once, on the whole gradient.
    parameters = [_leaf(t) for t in saved[count : count + len(ctx.names)]]
    work, lefts = saved[count + len(ctx.names) :][:count], saved[2 * count + len(ctx.names) :]
    combine = _substituted(ctx.monoid, ctx.names, parameters)

    # The gradient of the value that each row held last, going back through the steps.
    flow = [torch.zeros_like(t) for t in states]
    for into, grad in zip(flow, grads, strict=True):
        if _is_differentiable(into):
            into.index_copy_(0, plan.roots, grad.to(into.dtype))
    # A parameter that no combine used gets a gradient of 0: distributed training waits for it.
    # Sums over many steps are kept in float32 at least.
    totals = [
        torch.zeros_like(p, dtype=torch.promote_types(p.dtype, torch.float32)) for p in parameters
    ]

    schedule = steps(plan, unflatten(structure, states))
    for number in reversed(range(len(schedule))):
        level, left, right = schedule[number]
        if level > 0:
            a = [_leaf(t) for t in lefts[-count:]]
            del lefts[-count:]
        else:
            a = [_leaf(t.index_select(0, left)) for t in states]
        b = [_leaf(t.index_select(0, right)) for t in work]
        ctx.random.restore(number)
        with torch.enable_grad():
            left_state = unflatten(structure, a)
            combined = combine(left_state, unflatten(structure, b))
            outputs = leaves(cast_like(combined, left_state, ctx.monoid))
        operands = [*a, *b, *parameters]
        if number == len(schedule) - 1:
            _check_graph(outputs, operands, ctx.monoid)
        found = _gradients(outputs, operands, [t.index_select(0, left) for t in flow])
        for k, into in enumerate(flow):
            _put_or_zero(into, left, found[k])
            _put_or_zero(into, right, found[count + k])
        for total, found_here in zip(totals, found[2 * count :], strict=True):
            if found_here is not None:
                total += found_here
    gradients = [total.to(p.dtype) for total, p in zip(totals, parameters, strict=True)]
    return [*(t if _is_differentiable(t) else None for t in flow), *gradients]


def _gradients(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    grads: Sequence[Tensor],
    create_graph: bool = False,
) -> Grads:
    """``torch.autograd.grad`` for outputs and inputs of which some need no gradient."""
    pairs = [(o, g.to(o.dtype)) for o, g in zip(outputs, grads, strict=True) if o.requires_grad]
    wanted = [t for t in inputs if t.requires_grad]
    if not pairs or not wanted:
        return [None] * len(inputs)
    found = iter(
        torch.autograd.grad(
            [o for o, _ in pairs],
            wanted,
            [g for _, g in pairs],
            allow_unused=True,
            create_graph=create_graph,
        )
    )
    return [next(found) if t.requires_grad else None for t in inputs]


def _substituted(monoid: Monoid, names: Sequence[str], tensors: Sequence[Tensor]) -> Combine:
    """The combine of ``monoid`` with the parameters that it had when the fold ran."""
    own = gradient_tensors(monoid)
    if all(own.get(name) is tensor for name, tensor in zip(names, tensors, strict=True)):
        return monoid
    parameters = dict(zip(names, tensors, strict=True))
    return lambda a, b: torch.func.functional_call(monoid, parameters, (a, b))


def _put_or_zero(into: Tensor, rows: Tensor, grad: Tensor | None) -> None:
    if grad is None:
        into.index_fill_(0, rows, 0)
    else:
        into.index_copy_(0, rows, grad)


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_(_is_differentiable(tensor))


def _is_differentiable(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _check_graph(outputs: Sequence[Tensor], known: Sequence[Tensor], monoid: Monoid) -> None:
    """Refuse a combine that reaches a tensor whose gradient would be lost."""
    stops = {get_gradient_edge(t).node for t in known if t.requires_grad}
    queue = [t.grad_fn for t in outputs]
    seen = set(queue)
    while queue:
        node = queue.pop()
        if node is None or node in stops:
            continue
        variable = getattr(node, "variable", None)
        if variable is not None:
            raise RuntimeError(
                f"{type(monoid).__name__}.combine uses a tensor of shape {tuple(variable.shape)} "
                "that needs a gradient and is neither a parameter nor a buffer of the monoid: its "
                "gradient would be lost. Register it (assign it as an nn.Parameter or a module), "
                "or pass recompute=False (for good: set recomputable = False on the monoid)"
            )
        following = {other for other, _ in node.next_functions} - seen
        seen |= following
        queue.extend(following)
