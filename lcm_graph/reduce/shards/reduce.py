"""``distributed_reduce``: sets whose elements lie with several processes."""

from __future__ import annotations

import zlib

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from lcm_graph.monoids import Monoid, State
from lcm_graph.monoids.state import leaves, map_state, take
from lcm_graph.reduce.lifted import check_monoid_type
from lcm_graph.reduce.plan import FoldPlan, resolve_plan
from lcm_graph.reduce.recompute import gradient_tensors
from lcm_graph.reduce.segment import segment_reduce
from lcm_graph.reduce.shards.collectives import (
    gather_numbers,
    gather_rows,
    sum_over_ranks,
)
from lcm_graph.reduce.streams.counter import Counter, Subtrees, fold_subtrees


def distributed_reduce(
    monoid: Monoid,
    states: State,
    index: Tensor | None = None,
    ptr: Tensor | None = None,
    dim_size: int | None = None,
    *,
    group: dist.ProcessGroup | DeviceMesh | None = None,
    plan: FoldPlan | None = None,
) -> State:
    """Fold sets whose elements lie with several processes: on every rank, the states of all sets.

    A set's elements are those of rank 0, then those of rank 1, and so on. The answer is that of
    :func:`~lcm_graph.reduce.segment_reduce` for all of them in one process, up to rounding, also
    for operators that are not associative and however the elements are shared out:

    - an ``additive`` monoid (a sum) is folded on each rank, and the states of all sets are added
      by ``all_reduce``;
    - of another that is associative, each rank sends a state for each set that it has elements of;
    - of any other, the states of the whole subtrees of the canonical tree that its elements make
      up: one for a set of which it holds 2^k elements that begin at a multiple of 2^k, and at most
      2 log₂ n otherwise.

    All ranks of the group have to call it, with the same monoid, and, if gradients are asked for on
    any of them, run its backward pass. Gradients are those of the sum of all ranks' losses, as of
    ``torch.distributed.nn``: those of parameters are complete when they have been summed over the
    ranks. (``DistributedDataParallel`` takes the mean: then multiply the loss by the number of
    ranks.)

    Args:
        monoid: what to combine with, its parameters the same on all ranks.
        states: this rank's elements along dim 0, as ``monoid.lift`` makes them; may be none.
        index: integers ``[n]``, the set of each element, numbered alike on all ranks.
        ptr: integers ``[S + 1]``, if the sets lie end to end.
        dim_size: number of sets (default: the largest that a rank names).
        group: the ranks, or a one-dimensional ``DeviceMesh`` (default: all processes).
        plan: a plan of this rank's elements made before, instead of the three above.

    Returns:
        The states of the sets, the same on all ranks; the identity for empty sets.

    Raises:
        RuntimeError: torch.distributed is not initialised; another rank has ended or does not
            answer within the group's ``timeout`` (an argument of ``init_process_group``); or some
            ranks want gradients and others are under ``no_grad``. (NCCL's watchdog ends the process
            instead, unless the environment sets ``TORCH_NCCL_BLOCKING_WAIT=1``.)
        ValueError: see :func:`~lcm_graph.reduce.segment_reduce`, on all ranks if it is so on one;
            ``plan`` is not of canonical trees; ``group`` is a mesh of several dimensions; or ranks
            bring states of different kinds.
    """
    check_monoid_type(monoid)
    ranks = ranks_of(group)
    plan, needs_grad = _agree(monoid, states, (index, ptr, dim_size), plan, ranks)
    if monoid.additive:
        folded = segment_reduce(monoid, states, plan=plan)
        return map_state(lambda t: sum_over_ranks(t, ranks, needs_grad), folded)
    if monoid.associative:
        return _fold_partial(monoid, states, plan, ranks, needs_grad)
    return _fold_subtrees(monoid, states, plan, ranks, needs_grad)


def ranks_of(group: dist.ProcessGroup | DeviceMesh | None) -> dist.ProcessGroup:
    """The process group meant.

    Raises:
        RuntimeError: torch.distributed is not initialised.
        TypeError: ``group`` is neither a group nor a mesh.
        ValueError: it is a mesh of several dimensions.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError(
            "folding over processes needs torch.distributed: call init_process_group first, in a "
            "script that torchrun starts, for instance"
        )
    if isinstance(group, DeviceMesh):
        if group.ndim != 1:
            raise ValueError(
                f"'group' must be a mesh of one dimension (got {group.ndim}); pass one of its "
                "dimensions: mesh['name']"
            )
        found: dist.ProcessGroup = group.get_group()
        return found
    if group is not None:
        if not isinstance(group, dist.ProcessGroup):
            raise TypeError(f"'group' must be a process group or a DeviceMesh (got {group!r})")
        return group
    world = dist.group.WORLD
    assert world is not None  # since it is initialised
    return world


def _agree(
    monoid: Monoid,
    states: State,
    sets: tuple[Tensor | None, Tensor | None, int | None],
    plan: FoldPlan | None,
    ranks: dist.ProcessGroup,
) -> tuple[FoldPlan, bool]:
    """The plan with everybody's sets, and whether any rank will run a backward pass.

    What is wrong on one rank is told on all, none of which then waits for another.
    """
    problem: Exception | None = None
    num_sets, mark, wants = 0, 0, False
    device = _device(states, ranks)
    try:
        plan = resolve_plan(states, *sets, plan)
        kind = [(tuple(t.shape[1:]), str(t.dtype)) for t in leaves(states)]
        route = (repr(monoid), monoid.additive, monoid.associative, kind)
        mark = zlib.crc32(repr(route).encode())
        inputs = [*leaves(states), *gradient_tensors(monoid).values()]
        wants = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
        num_sets = plan.num_sets
    except (TypeError, ValueError) as error:
        problem = error
    numbers = [int(problem is None), num_sets, int(wants), int(torch.is_grad_enabled()), mark]
    everyone = gather_numbers(numbers, device, ranks)
    if problem is not None:
        raise problem
    assert plan is not None
    is_fine, num_sets_of, wanting, enabled, marks = everyone.unbind(1)
    if not is_fine.all():
        wrong = (is_fine == 0).nonzero().flatten().tolist()
        raise ValueError(
            f"distributed_reduce was given invalid arguments on ranks {wrong}, which tell what is "
            "wrong with them"
        )
    if (marks != mark).any():
        raise ValueError(
            f"all ranks must pass the same 'monoid' and 'states' of one kind: rank "
            f"{dist.get_rank(ranks)} has {monoid} and {kind}, ranks "
            f"{(marks != mark).nonzero().flatten().tolist()} have others"
        )
    if wanting.any() and not enabled.all():
        raise RuntimeError(
            "all ranks must run the backward pass of distributed_reduce, and ranks "
            f"{(enabled == 0).nonzero().flatten().tolist()} are under torch.no_grad(): call it "
            "with gradients on all, or on none"
        )
    return _extended(plan, int(num_sets_of.max())), bool(wanting.any())


def _device(states: State, ranks: dist.ProcessGroup) -> torch.device:
    """Of what is exchanged: that of the states, or any that the group can use."""
    if isinstance(states, (Tensor, tuple)) and leaves(states):
        return leaves(states)[0].device
    is_nccl = dist.get_backend(ranks) == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if is_nccl else torch.device("cpu")


def _extended(plan: FoldPlan, num_sets: int) -> FoldPlan:
    """The same plan with more sets at the end."""
    more = num_sets - plan.num_sets
    if not more:
        return plan
    ptr = torch.cat([plan.ptr, plan.ptr[-1:].expand(more)])
    longer = FoldPlan(ptr, plan.num_elements, plan.permutation)
    return longer._gathering(plan.source, plan.num_states)


def _fold_partial(
    monoid: Monoid, states: State, plan: FoldPlan, ranks: dist.ProcessGroup, needs_grad: bool
) -> State:
    """Of each rank a state for each set that it has elements of."""
    sets = plan.sizes.nonzero().flatten()
    folded = take(segment_reduce(monoid, states, plan=plan), sets)
    sizes = gather_numbers([sets.numel()], sets.device, ranks).flatten().tolist()
    everyone = map_state(lambda t: gather_rows(t, sizes, ranks, needs_grad), folded)
    return segment_reduce(monoid, everyone, gather_rows(sets, sizes, ranks), dim_size=plan.num_sets)


def _fold_subtrees(
    monoid: Monoid, states: State, plan: FoldPlan, ranks: dist.ProcessGroup, needs_grad: bool
) -> State:
    """Of each rank the whole subtrees that its elements make up."""
    every_rank = [plan.num_sets] * dist.get_world_size(ranks)
    counts = gather_rows(plan.sizes, every_rank, ranks).view(len(every_rank), plan.num_sets)
    start = counts[: dist.get_rank(ranks)].sum(0)
    mine = fold_subtrees(monoid, states, plan, start)
    sizes = gather_numbers([mine.sets.numel()], start.device, ranks).flatten().tolist()
    everyone = Subtrees(
        map_state(lambda t: gather_rows(t, sizes, ranks, needs_grad), mine.states),
        gather_rows(mine.sets, sizes, ranks),
        gather_rows(mine.begin, sizes, ranks),
        gather_rows(mine.level, sizes, ranks),
    )
    counter = Counter(monoid, start.device)
    counter.insert(everyone, counts.sum(0), constant=False)
    return counter.fold()
