"""What the processes of these tests do, and the same in one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from lcm_graph.monoids import (
    BinaryGRU,
    Fishnets,
    Lifted,
    Monoid,
    Product,
    Softmax,
    Sum,
    TopK,
)
from lcm_graph.reduce import FoldPlan, distributed_reduce, segment_reduce
from tests.reduce.fragile import Complex, Fails
from tests.references import Ordered

D, SETS = 4, 6
MONOIDS: dict[str, Callable[[], Monoid]] = {
    "sum": lambda: Sum(D),
    "softmax": lambda: Softmax(D, learn=True),
    "topk": lambda: TopK(D, k=3),
    "gru": lambda: BinaryGRU(D),
    "ordered": lambda: Ordered(D),
    "fishnets": lambda: Fishnets(D),
    "complex": lambda: Complex(D),
    "product": lambda: Product(Sum(D), Lifted(torch.nn.Linear(D, D), BinaryGRU(D))),
}
SHARES = {  # elements of each rank
    "aligned": [(32, 32), (16, 16, 16, 13)],
    "unaligned": [(23, 38), (3, 29, 0, 30)],
}


def make(name: str, n: int) -> tuple[Monoid, Tensor, Tensor, list[Tensor]]:
    """A monoid, elements and sets, and a cotangent for each of four ranks: the same everywhere."""
    torch.manual_seed(7)
    monoid = MONOIDS[name]().double()
    x = torch.randn(n, D, dtype=torch.float64, requires_grad=True)
    index = torch.randint(0, SETS - 1, (n,))  # the last set is empty
    shape = monoid.lower(segment_reduce(monoid, monoid.lift(x), index, dim_size=SETS))
    return monoid, x, index, [torch.randn_like(shape) for _ in range(4)]


def whole(name: str, sizes: tuple[int, ...]) -> dict[str, Any]:
    """In one process: values, and gradients of the sum of all ranks' losses."""
    monoid, x, index, cotangents = make(name, sum(sizes))
    out = monoid.lower(segment_reduce(monoid, monoid.lift(x), index, dim_size=SETS))
    (sum(cotangents[: len(sizes)]) * out).sum().backward()
    return _found(monoid, x, out)


def share(rank: int, name: str, sizes: tuple[int, ...]) -> dict[str, Any]:
    """On one of several ranks."""
    monoid, x, index, cotangents = make(name, sum(sizes))
    mine = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
    states = distributed_reduce(monoid, monoid.lift(x[mine]), index[mine], dim_size=SETS)
    out = monoid.lower(states)
    (cotangents[rank] * out).sum().backward()
    return _found(monoid, x, out)


def shares(rank: int, names: list[str], sizes: tuple[int, ...]) -> dict[str, dict[str, Any]]:
    """Of several monoids, one after another."""
    return {name: share(rank, name, sizes) for name in names}


def _found(monoid: Monoid, x: Tensor, out: Tensor) -> dict[str, Any]:
    weights = [weight.grad for weight in monoid.parameters()]
    return {"out": out.detach(), "x": x.grad, "weights": weights}


def ways(rank: int) -> dict[str, Any]:
    """Forms of the call that give the same, or less."""
    monoid, x, index, _ = make("gru", 61)
    x = x.detach()
    mine = slice(0, 20) if rank == 0 else slice(20, 61)
    found = {}
    with torch.no_grad():
        states = monoid.lift(x[mine])
        found["plain"] = distributed_reduce(monoid, states, index[mine]).value
        found["all"] = distributed_reduce(monoid, states, index[mine], dim_size=9).value
        mesh = init_device_mesh("cpu", (2,))
        found["mesh"] = distributed_reduce(monoid, states, index[mine], group=mesh).value
        plan = FoldPlan.from_index(index[mine], SETS)
        found["plan"] = distributed_reduce(monoid, states, plan=plan).value
        rows = torch.arange(61)[mine]
        gathered = FoldPlan.from_index(index[mine], SETS).gather(rows, 61)
        found["gathered"] = distributed_reduce(monoid, monoid.lift(x), plan=gathered).value
        found["one set"] = distributed_reduce(Sum(D), x[mine])
    if rank == 1:  # only one rank asks for gradients: the others take part all the same
        x.requires_grad_()
    out = distributed_reduce(Sum(D), x[mine], index[mine])
    out.sum().backward()
    found["gradient"] = x.grad
    try:
        distributed_reduce(Sum(D), x[mine] if rank else x[mine].float())
    except ValueError as error:
        found["error"] = str(error)
    return found


def derivatives(rank: int, world: int) -> dict[str, dict[str, Tensor]]:
    """First and second derivatives, and those of complex states."""
    found = {}
    for name in ("sum", "softmax", "gru", "complex"):
        monoid, x, index, cotangents = make(name, 24)
        per = 24 // world
        mine = slice(per * rank, per * (rank + 1))
        states = distributed_reduce(monoid, monoid.lift(x[mine]), index[mine], dim_size=SETS)
        out = monoid.lower(states)
        loss = (cotangents[rank] * out.tanh()).sum()
        (first,) = torch.autograd.grad(loss, x, create_graph=True)
        second = torch.autograd.grad(first.square().sum() + out.sum() / world, x)[0]
        found[name] = {"first": first.detach(), "second": second}
    return found


def derivatives_of_one(name: str, world: int) -> dict[str, Tensor]:
    """The same in one process: each rank asks for the second derivative of its elements' first."""
    monoid, x, index, cotangents = make(name, 24)
    out = monoid.lower(segment_reduce(monoid, monoid.lift(x), index, dim_size=SETS))
    loss = (sum(cotangents[:world]) * out.tanh()).sum()
    (first,) = torch.autograd.grad(loss, x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum() + out.sum(), x)
    return {"first": first.detach(), "second": second}


def mistakes(rank: int) -> list[str]:
    """What one rank does wrong is told on both, at once, and they go on together."""
    x, said = torch.ones(2, D), []

    def tried(call: Callable[[], object]) -> None:
        try:
            call()
        except (TypeError, ValueError, RuntimeError) as error:
            said.append(f"{type(error).__name__}: {error}")
        else:
            said.append("nothing")

    wrong = torch.tensor([0, -1]) if rank == 0 else torch.tensor([0, 1])
    tried(lambda: distributed_reduce(Sum(D), x, wrong))
    plan = FoldPlan.from_ptr(torch.tensor([0, 3 if rank == 0 else 2]))
    tried(lambda: distributed_reduce(Sum(D), x, plan=plan))
    plan = FoldPlan.from_index(torch.tensor([0, 0]))
    tried(lambda: distributed_reduce(Sum(D), x, plan=plan if rank else plan.bracketed()))
    tried(lambda: distributed_reduce(Product(Sum(2), Sum(2)) if rank else Sum(D), x))
    x.requires_grad_()
    with torch.set_grad_enabled(rank == 1):
        tried(lambda: distributed_reduce(Sum(D), x))
    failing = Fails(D)
    failing.after = 0
    tried(lambda: distributed_reduce(failing, x))
    together = distributed_reduce(Sum(D), x.detach() * (rank + 1))
    said.append(str(float(together[0, 0])))
    return said


def killed(rank: int) -> str:
    """The last rank is killed before it takes part."""
    monoid, x, index, _ = make("gru", 40)
    mine = slice(20 * rank, 20 * rank + 20)
    distributed_reduce(monoid, monoid.lift(x[mine]), index[mine])
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        distributed_reduce(monoid, monoid.lift(x[mine]), index[mine])
    except RuntimeError as error:
        os.write(2, f"said: {error}\n".encode())
        os._exit(3)
    return "nothing was said"


def killed_before_backward(rank: int) -> str:
    """The last rank is killed between the forward and the backward pass."""
    monoid, x, index, _ = make("softmax", 40)
    mine = slice(20 * rank, 20 * rank + 20)
    out = monoid.lower(distributed_reduce(monoid, monoid.lift(x[mine]), index[mine]))
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        out.sum().backward()
    except RuntimeError as error:
        os.write(2, f"said: {error}\n".encode())
        os._exit(3)
    dist.barrier()
    return "nothing was said"
