"""The fold with a backward pass that recomputes each combine from its operands.

Beside the input, a training fold holds the nodes, which are at most as many, whatever the combine
itself would have saved; going back, a node's gradient takes the place of its value.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from lcm_graph.kernels.gradient_mode import is_differentiated_again, is_kept
from lcm_graph.monoids import Monoid, State
from lcm_graph.monoids.state import leaves, map_state, num_elements, take, unflatten
from lcm_graph.reduce.by_autograd import Combine, fold_by_autograd
from lcm_graph.reduce.plan import FoldPlan
from lcm_graph.reduce.random_state import RandomStates
from lcm_graph.reduce.steps import (
    cast_like,
    fold_nodes,
    operands,
    results,
    rows_at_once,
    steps,
)

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
        random = RandomStates(device)
        count = len(inputs) - len(names)
        nodes = fold_nodes(monoid, unflatten(structure, inputs[:count]), plan.tree, random)
        outputs = tuple(leaves(take(nodes, plan.tree.roots)))

        ctx.monoid, ctx.plan, ctx.structure = monoid, plan, structure
        ctx.names, ctx.count = names, count
        ctx.random = random.trimmed()
        ctx.autocast = torch.autocast(
            device.type,
            dtype=torch.get_autocast_dtype(device.type),
            enabled=torch.is_autocast_enabled(device.type),
        )
        ctx.save_for_backward(*inputs, *leaves(nodes))
        ctx.mark_non_differentiable(*(t for t in outputs if not _is_differentiable(t)))
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        with ctx.autocast, ctx.random.replay():
            # Neither can be had of gradients that are written in place.
            transformed = is_differentiated_again(grads)
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
    count, tree, structure = ctx.count, ctx.plan.tree, ctx.structure
    saved = list(ctx.saved_tensors)
    states = saved[:count]
    # Leaves of their own: hooks of the parameters are to run once, on the whole gradient.
    parameters = [_leaf(t) for t in saved[count : count + len(ctx.names)]]
    nodes = saved[count + len(ctx.names) :]
    if is_kept():
        nodes = [t.clone() for t in nodes]
    combine = _substituted(ctx.monoid, ctx.names, parameters)

    # A node's gradient takes the place of its value once no level needs the value.
    flow = [t if _is_differentiable(t) else torch.zeros_like(t) for t in nodes]
    flow_in = [torch.zeros_like(t) for t in states]
    for into, grad in zip(flow, grads, strict=True):
        if _is_differentiable(into):
            into.index_copy_(0, tree.roots, grad.to(into.dtype))
    # A parameter that no combine used gets a gradient of 0: distributed training waits for it.
    # Sums over many steps are kept in float32 at least.
    totals = [
        torch.zeros_like(p, dtype=torch.promote_types(p.dtype, torch.float32)) for p in parameters
    ]

    schedule = steps(tree, unflatten(structure, states))
    for number in reversed(range(len(schedule))):
        step = schedule[number]
        both = operands(unflatten(structure, states), unflatten(structure, nodes), tree, step)
        a, b = ([_leaf(t) for t in leaves(operand)] for operand in both)
        ctx.random.restore(number)
        with torch.enable_grad():
            left_state = unflatten(structure, a)
            combined = combine(left_state, unflatten(structure, b))
            outputs = leaves(cast_like(combined, left_state, ctx.monoid))
        inputs = [*a, *b, *parameters]
        if number == len(schedule) - 1:
            _check_graph(outputs, inputs, ctx.monoid)
        # Copies: what comes back may be the very gradient that went in, and overwrites nodes.
        found = _gradients(outputs, inputs, [t[results(tree, step)].clone() for t in flow])
        for side, rows in enumerate((tree.left, tree.right)):
            rows = rows[step.start : step.end]
            for k in range(count):
                grad = found[side * count + k]
                if step.level:
                    _put_or_zero(flow[k], rows, grad)
                elif grad is not None:
                    _add(flow_in[k], rows, grad, ctx.plan)
        for total, found_here in zip(totals, found[2 * count :], strict=True):
            if found_here is not None:
                total += found_here
    singles = tree.singles.numel()
    for into, source in zip(flow_in, flow, strict=True):
        if _is_differentiable(into):
            _add(into, tree.singles, source[:singles], ctx.plan)
    gradients = [total.to(p.dtype) for total, p in zip(totals, parameters, strict=True)]
    return [*(t if _is_differentiable(t) else None for t in flow_in), *gradients]


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


def _add(into: Tensor, rows: Tensor, grad: Tensor, plan: FoldPlan) -> None:
    """Put gradients of elements; add where elements share a row of the input."""
    if plan.source is None:
        into.index_copy_(0, rows, grad)
    else:
        into.index_add_(0, rows, grad)


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
