"""Prefixes as states against sums written out."""

from __future__ import annotations

import math

import pytest
import torch

from lcm_graph.attention import AttentionState, attend
from lcm_graph.attention.prefixes import FEATURES, PrefixState

B, H, N, M, D, E = 2, 3, 5, 7, 4, 6


def drawn(seed: int = 0, m: int = M) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((B, H, N, D), (B, H, m, D), (B, H, m, E))
    q, k, v = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return q, k, v


def prefix(features: str, seed: int = 0) -> PrefixState:
    torch.manual_seed(seed)
    made = PrefixState(H, D, E, features=features, degree=2).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


def denominator(module: PrefixState, q: torch.Tensor) -> torch.Tensor:
    norm = module.norm.abs() if module.features == "elu" else module.norm
    return (module.feature_map(q) @ norm.unsqueeze(-1)).squeeze(-1).relu()


def reference(module: PrefixState, q, k, v) -> torch.Tensor:
    """The formula with exponentials as they are."""
    weights = (q @ k.mT / D**0.5).exp()
    above = weights @ v + module.feature_map(q) @ module.products
    return above / (weights.sum(-1) + denominator(module, q)).unsqueeze(-1)


@pytest.mark.parametrize("features", FEATURES)
def test_values_and_gradients(features):
    module = prefix(features)
    inputs = [one.requires_grad_() for one in drawn()]
    wrt = [*inputs, *module.parameters()]
    found = module(inputs[0], attend(*inputs)).out
    expected = reference(module, *inputs)
    torch.testing.assert_close(found, expected)
    cotangent = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(found, wrt, cotangent),
        torch.autograd.grad(expected, wrt, cotangent),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("features", FEATURES)
def test_the_sum_goes_on_merging(features):
    """Its logarithm is that of all that weighed, so that other keys may follow."""
    module = prefix(features)
    q, k, v = drawn()
    state = module(q, attend(q, k, v))
    below = (q @ k.mT / D**0.5).exp().sum(-1) + denominator(module, q)
    torch.testing.assert_close(state.lse, below.log())


@pytest.mark.parametrize("features", FEATURES)
def test_at_first_it_changes_nothing_and_both_parts_learn(features):
    module = PrefixState(H, D, E, features=features).double()
    q, k, v = drawn()
    state = attend(q, k, v)
    found = module(q, state)
    torch.testing.assert_close(found, state, rtol=0, atol=1e-15)
    found.out.mul(torch.randn_like(found.out)).sum().backward()
    for parameter in module.parameters():
        assert parameter.grad is not None and parameter.grad.abs().min() > 0


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("logit", [1e4, -1e4, 300.0, -300.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_of_any_size(features, logit, dtype):
    q, k, v = drawn()
    state = attend(q, k, v)
    state = AttentionState(state.out.to(dtype), state.lse.float() + logit)
    filled = PrefixState(H, D, E, features=features).fill(k[0], v[0])
    for module in (PrefixState(H, D, E, features=features), filled):
        found = module(q.to(dtype), state)
        assert found.out.dtype == dtype and found.lse.dtype == torch.float32
        assert found.out.isfinite().all() and found.lse.isfinite().all()
        found.out.sum().backward()
        for parameter in module.parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all()
        if logit > 0 or module is not filled:
            torch.testing.assert_close(found.out, state.out)


@pytest.mark.parametrize("features", FEATURES)
def test_queries_without_keys_have_the_prefix_alone(features):
    q, k, v = drawn()
    empty = attend(q, k[:, :, :0], v[:, :, :0])
    untouched = PrefixState(H, D, E, features=features).double()(q, empty)
    assert (untouched.out == 0).all() and (untouched.lse == -torch.inf).all()
    module = PrefixState(H, D, E, features=features).double().fill(k[0], v[0])
    mapped, keys = module.feature_map(q), module.feature_map(k[0])
    weights = mapped @ keys.mT
    found = module(q, empty)
    torch.testing.assert_close(found.out, weights @ v[0] / weights.sum(-1, keepdim=True))
    torch.testing.assert_close(found.lse, weights.sum(-1).log())


def test_prefixes_one_after_the_other_add_up():
    _, k, v = drawn()
    whole, first, second = (PrefixState(H, D, E).double() for _ in range(3))
    whole.fill(k[0], v[0])
    first.fill(k[0, :, :3], v[0, :, :3])
    second.fill(k[0, :, 3:], v[0, :, 3:])
    torch.testing.assert_close(whole.products, first.products + second.products)
    torch.testing.assert_close(whole.norm, first.norm + second.norm)


def test_a_taylor_prefix_comes_near_its_tokens_and_an_elu_prefix_does_not():
    q, k, v = drawn(m=50)
    expected = attend(q[:1], k[:1], v[:1]).out

    def error(**kwargs) -> float:
        module = PrefixState(H, D, E, **kwargs).double().fill(k[0], v[0])
        found = module(q[:1], attend(q[:1], k[:1, :, :0], v[:1, :, :0])).out
        return float((found - expected).detach().norm() / expected.norm())

    errors = [error(features="taylor", degree=degree) for degree in (2, 4, 6, 8, 12)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-3
    assert error(features="elu") > 0.3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PrefixState(0, 1), "'heads' must be"),
        (lambda: PrefixState(1, 1, features="relu"), r"one of elu, taylor \(got 'relu'\)"),
        (lambda: PrefixState(1, 4, features="taylor", degree=3), "'degree' must be even"),
        (lambda: PrefixState(1, 64, features="taylor", degree=6), "are the most"),
        (lambda: PrefixState(H, D).fill(torch.ones(H, 2, D), torch.ones(H, 3, D)), r"\[3, 3, 4\]"),
        (
            lambda: PrefixState(H, D)(
                torch.ones(B, 2, N, D), AttentionState(torch.ones(B, 2, N, D), torch.ones(B, 2, N))
            ),
            r"'q' must be \[B, 3, N, 4\] \(got \[2, 2, 5, 4\]\)",
        ),
        (
            lambda: PrefixState(H, D, 3)(
                torch.ones(B, H, N, D), AttentionState(torch.ones(B, H, N, 1), torch.ones(B, H, N))
            ),
            r"'state' must have out \[2, 3, 5, 3\] \(got \[2, 3, 5, 1\]\)",
        ),
        (
            lambda: PrefixState(H, D)(
                torch.ones(B, H, N, D), AttentionState(torch.ones(B, H, 1, D), torch.ones(B, H, 1))
            ),
            r"'state' must be of the same queries, lse \[2, 3, 5\] \(got \[2, 3, 1\]\)",
        ),
    ],
)
def test_mistakes(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_tensor_is_no_state():
    with pytest.raises(TypeError, match=r"such as attend\(q, k, v\) \(got Tensor\)"):
        PrefixState(H, D)(torch.ones(B, H, N, D), torch.ones(B, H, N, D))


def test_nan_is_not_lost() -> None:
    """A training that has gone wrong does not look as if there were no keys."""
    q, k, v = (torch.randn(1, 2, size, 4) for size in (3, 5, 5))
    state = attend(q, k, v)
    prefix = PrefixState(2, 4).fill(torch.full((2, 6, 4), math.nan), torch.randn(2, 6, 4))
    for found in prefix(q, state):
        assert found.isnan().all()
    gone = AttentionState(state.out, torch.full_like(state.lse, math.nan))
    for found in PrefixState(2, 4)(q, gone):
        assert found.isnan().all()
