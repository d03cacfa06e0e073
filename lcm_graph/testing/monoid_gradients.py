"""Gradients of folds: against finite differences, and between the ways of folding."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lcm_graph.reduce import FoldPlan, segment_reduce, tree_reduce
from lcm_graph.testing.check import Measurement
from lcm_graph.testing.compare import expect_close
from lcm_graph.testing.subject import SIZES, MonoidSubject, ragged_index


def check_form_gradients(subject: MonoidSubject) -> Measurement:
    """Closed form and tree have the same gradients, for a random cotangent."""
    monoid = subject.fresh()
    index = ragged_index(SIZES)
    plan = FoldPlan.from_index(index, len(SIZES))
    x = subject.draw(len(index))
    if not x.is_floating_point():
        return {"gradients": "undefined"}
    x.requires_grad_()
    found = []
    for fold in (segment_reduce, tree_reduce):
        out = monoid.lower(fold(monoid, monoid.lift(x), plan=plan))
        cotangent = _normal(out.shape, out.dtype)
        inputs = [x, *(p for p in monoid.parameters() if p.requires_grad)]
        found.append(
            torch.autograd.grad(out, inputs, cotangent, allow_unused=True, materialize_grads=True)
        )
    pairs = zip(*found, strict=True)
    return max(expect_close(a, b, f"gradients of both forms on {SIZES}") for a, b in pairs)


def check_gradients(subject: MonoidSubject) -> Measurement:
    """Gradients agree with finite differences, of elements and of parameters (float64)."""
    return _gradcheck(subject, (0, 1, 2, 3, 5), torch.autograd.gradcheck)


def check_second_gradients(subject: MonoidSubject) -> Measurement:
    """Second derivatives agree with finite differences (float64)."""
    return _gradcheck(subject, (1, 2, 3), torch.autograd.gradgradcheck)


def _gradcheck(
    subject: MonoidSubject, sizes: tuple[int, ...], check: Callable[..., bool]
) -> Measurement:
    monoid = subject.fresh(torch.float64)
    index = ragged_index(sizes)
    x = subject.draw(len(index), 7, torch.float64)
    if not x.is_floating_point():
        return {"gradients": "undefined"}
    inputs = [x.requires_grad_(), *(p for p in monoid.parameters() if p.requires_grad)]

    for recompute in (False, True):

        def fold(x: Tensor, *parameters: Tensor, recompute: bool = recompute) -> Tensor:
            # The parameters are the monoid's own tensors: perturbed in place, they are seen here.
            states = monoid.lift(x)
            dim_size = len(sizes)
            fold = segment_reduce(monoid, states, index, dim_size=dim_size, recompute=recompute)
            return monoid.lower(fold)

        try:
            with torch.random.fork_rng(devices=[]):  # gradgradcheck draws its cotangents
                torch.manual_seed(subject.seed)
                check(fold, inputs, fast_mode=True)
        except RuntimeError as error:
            what = f"gradients on sizes {sizes} with recompute={recompute}"
            raise AssertionError(f"{what}: {error}") from error
    return {"inputs": len(inputs)}


def check_recompute(subject: MonoidSubject) -> Measurement:
    """Recomputing combines in the backward pass gives the gradients that autograd gives."""
    monoid = subject.fresh()
    index = ragged_index(SIZES)
    x = subject.draw(len(index))
    if not x.is_floating_point():
        return {"gradients": "undefined"}
    x.requires_grad_()
    inputs = [x, *(p for p in monoid.parameters() if p.requires_grad)]
    found = []
    for recompute in (True, False):
        plan = FoldPlan.from_index(index, len(SIZES))
        out = monoid.lower(tree_reduce(monoid, monoid.lift(x), plan, recompute=recompute))
        cotangent = _normal(out.shape, out.dtype)
        found.append(
            torch.autograd.grad(out, inputs, cotangent, allow_unused=True, materialize_grads=True)
        )
    return max(
        expect_close(a, b, f"recomputed gradients on {SIZES}") for a, b in zip(*found, strict=True)
    )


def _normal(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(11)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


CHECKS: tuple[Callable[[MonoidSubject], Measurement], ...] = (
    check_form_gradients,
    check_gradients,
    check_second_gradients,
    check_recompute,
)
