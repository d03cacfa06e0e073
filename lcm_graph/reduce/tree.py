"""Folding along the canonical tree: in place, recomputed in the backward pass, or by autograd.

``fold_in_place`` overwrites left operands in a working copy of the states. A right operand keeps
its value there until the end, so the backward pass finds it in place; left operands are read from
the input at level 0 and from saved copies above. A training fold thus holds about one and a half
times its input, beside the input itself, whatever the combine would save.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from lcm_graph.monoids import Monoid, State
from lcm_graph.monoids.state import leaves, map_state, take, unflatten
from lcm_graph.reduce.plan import FoldPlan
from lcm_graph.reduce.random_state import RandomStates

CHUNK_ELEMENTS = {"cpu": 1 << 19, "cuda": 1 << 24}
"""Numbers of a state that one combine handles at once: on CPU its intermediates stay in cache."""


def fold_roots(monoid: Monoid, states: State, plan: FoldPlan, recompute: bool = True) -> State:
    """Fold every occupied set; returns their states in order of the sets.

    Args:
        recompute: save only operands and recompute each combine in the backward pass; else keep
            autograd's graph.
    """
    parameters = _parameters(monoid)
    tensors = [*leaves(states), *parameters.values()]
    needs_graph = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    if _is_transformed() or (needs_graph and not (recompute and monoid.recomputable)):
        return fold_by_autograd(monoid, states, plan)
    if not needs_graph:
        return fold_in_place(monoid, states, plan)
    outputs = _RecomputedFold.apply(monoid, plan, states, tuple(parameters), *tensors)
    return unflatten(states, outputs)


def fold_by_autograd(monoid: Monoid, states: State, plan: FoldPlan) -> State:
    """Fold with operations that autograd, ``torch.func`` and ``torch.compile`` see through."""
    levels, singletons, order = plan.compact_levels
    at_hand = states
    finished = [take(states, singletons)]
    for level in levels:
        combined = monoid(take(at_hand, level.left), take(at_hand, level.right))
        combined = _cast(combined, at_hand)
        both = map_state(lambda a, b: torch.cat([a, b]), at_hand, combined)
        at_hand = take(both, level.keep)
        finished.append(take(combined, level.done))
    return take(map_state(lambda *parts: torch.cat(parts), *finished), order)


def fold_in_place(
    monoid: Monoid, states: State, plan: FoldPlan, tape: _Tape | None = None
) -> State:
    """Fold without a graph; a ``tape`` records what a backward pass will need."""
    work = map_state(Tensor.clone, states)
    with torch.no_grad():
        for number, (left, right) in enumerate(plan.levels):
            for rows_left, rows_right in _chunks(left, right, states):
                a, b = take(work, rows_left), take(work, rows_right)
                if tape is not None:
                    tape.record(number, a)
                combined = _cast(monoid.combine(a, b), work)
                map_state(lambda w, c: w.index_copy_(0, rows_left, c), work, combined)  # noqa: B023
    if tape is not None:
        tape.work = leaves(work)
    return take(work, plan.roots)


class _Tape:
    """What a fold leaves behind for its backward pass."""

    def __init__(self, device: torch.device) -> None:
        self.lefts: list[Tensor] = []  # left operands of the levels above 0, chunk by chunk
        self.work: list[Tensor] = []  # the working copy, in which right operands keep their values
        self.random = RandomStates(device)

    def record(self, level: int, left: State) -> None:
        self.random.record()
        if level > 0:
            self.lefts.extend(leaves(left))


class _RecomputedFold(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        monoid: Monoid,
        plan: FoldPlan,
        states: State,
        names: Sequence[str],
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        count = len(tensors) - len(names)
        ctx.structure = map_state(lambda t: t.new_empty(0), states)
        states = unflatten(states, tensors[:count])
        device = tensors[0].device
        tape = _Tape(device)
        roots = fold_in_place(monoid, states, plan, tape)
        ctx.monoid, ctx.plan, ctx.names, ctx.count = monoid, plan, names, count
        ctx.random = tape.random.trimmed()
        ctx.autocast = (
            device.type,
            torch.get_autocast_dtype(device.type),
            torch.is_autocast_enabled(device.type),
        )
        ctx.save_for_backward(*tensors, *tape.work, *tape.lefts)
        outputs = tuple(leaves(roots))
        ctx.mark_non_differentiable(*(t for t in outputs if not t.is_floating_point()))
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        count, names = ctx.count, ctx.names
        inputs = saved[: count + len(names)]
        device_type, dtype, enabled = ctx.autocast
        with torch.autocast(device_type, dtype=dtype, enabled=enabled), ctx.random.replay():
            if torch.is_grad_enabled():  # somebody differentiates this gradient
                result = _differentiable_backward(ctx, inputs, grads)
            else:
                result = _recompute_backward(ctx, inputs, saved[len(inputs) :], grads)
        return (None, None, None, None, *result)


def _differentiable_backward(
    ctx: Any, inputs: Sequence[Tensor], grads: Sequence[Tensor]
) -> Sequence[Tensor | None]:
    with torch.enable_grad():
        ctx.random.restore(0)
        states = unflatten(ctx.structure, inputs[: ctx.count])
        parameters = dict(zip(ctx.names, inputs[ctx.count :], strict=True))
        combine = _Substituted(ctx.monoid, parameters)
        outputs = leaves(fold_by_autograd(combine, states, ctx.plan))
    return _gradients(outputs, [t for t in inputs], grads, create_graph=True)


def _recompute_backward(
    ctx: Any, inputs: Sequence[Tensor], saved: Sequence[Tensor], grads: Sequence[Tensor]
) -> Sequence[Tensor | None]:
    count, plan = ctx.count, ctx.plan
    structure = ctx.structure
    states, parameters = inputs[:count], list(inputs[count:])
    work, lefts = saved[:count], list(saved[count:])
    combine = _Substituted(ctx.monoid, dict(zip(ctx.names, parameters, strict=True)))

    # Row by row the gradient of the value that the row held last; a right row is read once.
    flow = [torch.zeros_like(t) for t in states]
    for into, grad in zip(flow, grads, strict=True):
        if into.is_floating_point() and grad is not None:
            into.index_copy_(0, plan.roots, grad.to(into.dtype))
    totals: list[Tensor | None] = [None] * len(parameters)

    chunks = [
        (number, rows)
        for number, level in enumerate(plan.levels)
        for rows in _chunks(level.left, level.right, unflatten(structure, states))
    ]
    checked = False
    for step in range(len(chunks) - 1, -1, -1):
        number, (left, right) = chunks[step]
        if number > 0:
            a = lefts[-count:]
            del lefts[-count:]
        else:
            a = [t.index_select(0, left) for t in states]
        a = [_leaf(t) for t in a]
        b = [_leaf(t.index_select(0, right)) for t in work]
        ctx.random.restore(step)
        with torch.enable_grad():
            combined = combine(unflatten(structure, a), unflatten(structure, b))
            outputs = leaves(_cast(combined, unflatten(structure, a)))
        if not checked:
            _check_graph(outputs, [*a, *b, *parameters], ctx.monoid)
            checked = True
        gradients = _gradients(
            outputs, [*a, *b, *parameters], [t.index_select(0, left) for t in flow]
        )
        for into, grad_a, grad_b in zip(
            flow, gradients[:count], gradients[count : 2 * count], strict=True
        ):
            into.index_copy_(0, left, torch.zeros_like(into[:0]).new_zeros(
                len(left), *into.shape[1:]) if grad_a is None else grad_a)
            if grad_b is not None:
                into.index_copy_(0, right, grad_b)
        for k, grad in enumerate(gradients[2 * count :]):
            if grad is not None:
                totals[k] = grad if totals[k] is None else totals[k] + grad
    result = [t if t.is_floating_point() else None for t in flow]
    return [*result, *totals]


def _gradients(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    grads: Sequence[Tensor],
    create_graph: bool = False,
) -> list[Tensor | None]:
    """``torch.autograd.grad`` for outputs and inputs of which some need no gradient."""
    pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if o.requires_grad]
    wanted = [t for t in inputs if t.requires_grad]
    if not pairs or not wanted:
        return [None] * len(inputs)
    found = iter(
        torch.autograd.grad(
            [o for o, _ in pairs],
            wanted,
            [g.to(o.dtype) for o, g in pairs],
            allow_unused=True,
            create_graph=create_graph,
        )
    )
    return [next(found) if t.requires_grad else None for t in inputs]


class _Substituted:
    """A monoid whose parameters are other tensors: those it had when the fold ran."""

    def __init__(self, monoid: Monoid, parameters: dict[str, Tensor]) -> None:
        self.monoid = monoid
        own = _parameters(monoid)
        same = all(own.get(name) is tensor for name, tensor in parameters.items())
        self.parameters = None if same else parameters

    def __call__(self, left: State, right: State) -> State:
        if self.parameters is None:
            return self.monoid.combine(left, right)
        return torch.func.functional_call(self.monoid, self.parameters, (left, right))


def _parameters(monoid: Monoid) -> dict[str, Tensor]:
    """The parameters and buffers that need gradients, by name."""
    named = [*monoid.named_parameters(), *monoid.named_buffers()]
    return {name: tensor for name, tensor in named if tensor.requires_grad}


def _is_transformed() -> bool:
    """Whether somebody looks into the operations: ``torch.func``, forward mode, ``torch.compile``."""
    return (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


def _chunks(left: Tensor, right: Tensor, states: State) -> Iterator[tuple[Tensor, Tensor]]:
    width = sum(t[:1].numel() for t in leaves(states)) or 1
    rows = max(256, CHUNK_ELEMENTS.get(left.device.type, 1 << 24) // width)
    return zip(left.split(rows), right.split(rows), strict=True)


def _cast(state: State, like: State) -> State:
    """States keep their dtype, also where autocast computes a combine in another."""
    return map_state(lambda s, t: s.to(t.dtype), state, like)


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_(tensor.is_floating_point())


def _check_graph(outputs: Sequence[Tensor], known: Sequence[Tensor], monoid: Monoid) -> None:
    """Refuse a combine that reaches a tensor whose gradient would be lost."""
    ends = {id(t) for t in known}
    stops = {t.grad_fn for t in known if t.grad_fn is not None}
    queue = [t.grad_fn for t in outputs if t.grad_fn is not None]
    seen = set(queue)
    while queue:
        node = queue.pop()
        variable = getattr(node, "variable", None)
        if variable is not None and id(variable) not in ends:
            raise RuntimeError(
                f"{type(monoid).__name__}.combine uses a tensor of shape {tuple(variable.shape)} "
                "that needs a gradient and is neither a parameter nor a buffer of the monoid: its "
                "gradient would be lost. Register it (assign it as an nn.Parameter or a module), "
                "or pass recompute=False"
            )
        for following, _ in node.next_functions:
            if following is not None and following not in seen and following not in stops:
                seen.add(following)
                queue.append(following)
