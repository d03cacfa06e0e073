"""torch.func, forward mode and higher derivatives through folds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacrev, jvp, vmap

from lcm_graph.monoids import BinaryGRU, Max, Moments, Monoid, Softmax, Sum, TopK
from lcm_graph.reduce import segment_reduce
from tests.references import error, gradients, index_of

TOLERANCE = 1e-10  # float64
INDEX = index_of((3, 0, 1, 6))[torch.tensor([4, 9, 0, 3, 2, 7, 1, 5, 8, 6])]
MONOIDS: dict[str, Callable[[], Monoid]] = {
    "sum": lambda: Sum(2),
    "max": lambda: Max(2),
    "softmax": lambda: Softmax(2),
    "moments": lambda: Moments(2),
    "topk": lambda: TopK(2, k=3),
    "gru": lambda: BinaryGRU(2),
}


class Lowered(torch.nn.Module):
    def __init__(self, monoid: Monoid, recompute: bool) -> None:
        super().__init__()
        self.monoid = monoid
        self.recompute = recompute

    def forward(self, x: Tensor) -> Tensor:
        states = segment_reduce(
            self.monoid, self.monoid.lift(x), INDEX, dim_size=4, recompute=self.recompute
        )
        return self.monoid.lower(states)


@pytest.fixture(params=[True, False], ids=["recompute", "autograd"])
def recompute(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture(params=MONOIDS)
def fold(request: pytest.FixtureRequest, recompute: bool) -> Callable[[Tensor], Tensor]:
    monoid = MONOIDS[request.param]().double()
    return lambda x: monoid.lower(
        segment_reduce(monoid, monoid.lift(x), INDEX, dim_size=4, recompute=recompute)
    )


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_vmap(fold: Callable[[Tensor], Tensor]) -> None:
    x = draw(3, 10, 2)
    assert error(vmap(fold)(x), torch.stack([fold(one) for one in x])) <= TOLERANCE


def test_grad_and_vmap_of_grad(fold: Callable[[Tensor], Tensor]) -> None:
    x = draw(3, 10, 2).requires_grad_()
    (expected,) = torch.autograd.grad(torch.stack([fold(one) for one in x]).sin().sum(), x)
    got = vmap(grad(lambda one: fold(one).sin().sum()))(x.detach())
    assert error(got, expected) <= TOLERANCE
    assert error(grad(lambda all: vmap(fold)(all).sin().sum())(x.detach()), expected) <= TOLERANCE


def test_jvp_is_the_jacobian_applied(fold: Callable[[Tensor], Tensor]) -> None:
    x, tangent = draw(10, 2), draw(10, 2)
    value, derivative = jvp(fold, (x,), (tangent,))[:2]
    expected = torch.einsum("...nf,nf->...", jacrev(fold)(x), tangent)
    assert error(value, fold(x)) <= TOLERANCE
    assert error(derivative, expected) <= TOLERANCE


def test_dual_numbers(fold: Callable[[Tensor], Tensor]) -> None:
    x, tangent = draw(10, 2).requires_grad_(), draw(10, 2)
    with forward_ad.dual_level():
        out = forward_ad.unpack_dual(fold(forward_ad.make_dual(x, tangent)))
    assert out.tangent is not None
    assert error(out.tangent, jvp(fold, (x.detach(),), (tangent,))[1]) <= TOLERANCE


def test_double_backward_is_the_hessian(fold: Callable[[Tensor], Tensor]) -> None:
    x, vector = draw(10, 2).requires_grad_(), draw(10, 2)
    (first,) = torch.autograd.grad(fold(x).sin().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad((first * vector).sum(), x)
    full = hessian(lambda x: fold(x).sin().sum())(x.detach())
    assert error(second, torch.einsum("ijkl,ij->kl", full, vector)) <= TOLERANCE


def test_batched_cotangents(fold: Callable[[Tensor], Tensor]) -> None:
    """``is_grads_batched``, on which ``jacobian(vectorize=True)`` stands."""
    x = draw(10, 2).requires_grad_()
    out = fold(x)
    cotangents = draw(3, *out.shape)
    (got,) = torch.autograd.grad(out, x, cotangents, is_grads_batched=True)
    for one, cotangent in zip(got, cotangents, strict=True):
        (expected,) = torch.autograd.grad(fold(x), x, cotangent)
        assert error(one, expected) <= TOLERANCE


def test_functional_call_with_other_parameters(recompute: bool) -> None:
    """Values and gradients belong to the parameters that were put in, not to the module's own."""
    monoid, other = BinaryGRU(3).double(), BinaryGRU(3).double()
    x = draw(10, 3)
    layer = Lowered(monoid, recompute)
    # Tensors that are no leaves, as in meta-learning.
    replaced = {f"monoid.{k}": 1.0 * v for k, v in other.named_parameters()}
    out = functional_call(layer, replaced, (x,))
    expected = Lowered(other, recompute)(x)
    assert error(out, expected) <= TOLERANCE
    got = gradients(out, list(other.parameters()))
    for one, wanted in zip(got, gradients(expected, list(other.parameters())), strict=True):
        assert error(one, wanted) <= TOLERANCE
    assert all(
        not g.any()
        for g in gradients(functional_call(layer, replaced, (x,)), [*monoid.parameters()])
    )


def test_grad_over_parameters(recompute: bool) -> None:
    monoid = BinaryGRU(3).double()
    x = draw(10, 3)
    names = dict(monoid.named_parameters())

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        lowered = functional_call(
            Lowered(monoid, recompute), {f"monoid.{k}": v for k, v in parameters.items()}, (x,)
        )
        return lowered.sin().sum()

    got = grad(loss)({k: v.detach() for k, v in names.items()}, x)
    expected = torch.autograd.grad(Lowered(monoid, recompute)(x).sin().sum(), list(names.values()))
    for name, wanted in zip(names, expected, strict=True):
        assert error(got[name], wanted) <= TOLERANCE
