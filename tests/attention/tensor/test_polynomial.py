"""The polynomial method: its sums, its streams, its error."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal, localcontext
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from lcm_graph.attention import (
    AttentionState,
    PolynomialAttention,
    merge,
    polynomial_error,
    tensor_attention,
)
from lcm_graph.attention.tensor import recompute
from lcm_graph.attention.tensor.monomials import count_monomials, monomials, taylor_weights
from lcm_graph.reduce import Accumulator, prefix_reduce, segment_reduce
from lcm_graph.testing import Check, check_monoid
from tests.attention.tensor.reference import (
    SIZES,
    deviation,
    gradient_deviation,
    reference,
    tensors,
)

MONOIDS = {
    "pairs": PolynomialAttention(2, 3),
    "triples": PolynomialAttention(1, 2, degree=2, order=3),
    "keys": PolynomialAttention(3, 1, degree=2, order=1),
}


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, id=f"{name}-{check}")
        for name, monoid in MONOIDS.items()
        for check in check_monoid(monoid)
    ],
)
def test_conformance(check: Check) -> None:
    check()


def taylor(degree: int, logits: Tensor) -> Tensor:
    """The polynomial, term by term."""
    return torch.stack([logits**t / math.factorial(t) for t in range(degree + 1)]).sum(0)


@pytest.mark.parametrize("degree", [2, 4, 6])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_monomials(degree: int, channels: int) -> None:
    """All products, once each, in which the polynomial of a product of vectors is linear."""
    x, y, z = torch.randn(3, 7, channels, dtype=torch.float64)
    expected = set()
    for powers in itertools.product(range(degree + 1), repeat=channels):
        if sum(powers) <= degree:
            expected.add(
                round(math.prod(a**p for a, p in zip(x[0].tolist(), powers, strict=True)), 9)
            )
    found = monomials(x, degree)
    assert found.shape == (7, count_monomials(channels, degree)) == (7, len(expected))
    assert {round(one, 9) for one in found[0].tolist()} == expected
    weights = taylor_weights(x, degree)
    both = (weights * found * monomials(y, degree)).sum(-1)
    assert torch.allclose(both, taylor(degree, (x * y).sum(-1)), atol=1e-12)
    three = (weights * found * monomials(y, degree) * monomials(z, degree)).sum(-1)
    assert torch.allclose(three, taylor(degree, (x * y * z).sum(-1)), atol=1e-12)


@pytest.fixture(params=["in parts", "at once"])
def parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both a few tokens at a time, and all."""
    if request.param == "in parts":
        monkeypatch.setattr(recompute, "NUMBERS", 3000)


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("form", ["trilinear", "determinant"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("n", "m1", "m2"), (*SIZES, (4, 2, 3)))
def test_values_and_gradients(form: str, causal: bool, n: int, m1: int, m2: int) -> None:
    """The exact method with a polynomial for the exponential: equal, however large the error."""
    q, k, v = tensors((2,), n, m1, m2, 3, 2)
    arguments: dict[str, Any] = {"form": form, "causal": causal}
    found = tensor_attention(q, k, v, method="polynomial", degree=4, **arguments)
    expected = reference(q, k, v, **arguments, weight=lambda logits: taylor(4, logits))
    assert deviation(found, expected) <= 1e-11
    assert gradient_deviation(found, expected, [q, *k, *v]) <= 1e-9


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("n", "m1", "m2"), [(0, 3, 2), (3, 0, 2), (3, 2, 0), (0, 0, 0)])
def test_nothing_to_ask_or_to_see(causal: bool, n: int, m1: int, m2: int) -> None:
    q, k, v = tensors((2, 3), n, m1, m2)
    found = tensor_attention(q, k, v, method="polynomial", causal=causal)
    assert found.out.shape == (2, 3, n, 2) and (found.out == 0).all()
    assert found.lse.shape == (2, 3, n) and (found.lse == -math.inf).all()
    found.out.sum().backward()
    assert q.grad is not None and (q.grad == 0).all()


def test_a_long_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Causal, in blocks of some tokens: the last query of each beginning is one of all its keys."""
    monkeypatch.setattr(recompute, "NUMBERS", 50_000)
    q, k, v = tensors((2,), 1000, 1000, 1000, 2, 3, size=0.5)
    found = tensor_attention(q, k, v, method="polynomial", causal=True)
    for end in (1, 2, 499, 1000):
        own = [(both[0][:, :end], both[1][:, :end]) for both in (k, v)]
        expected = tensor_attention(q[:, end - 1 : end], *own, method="polynomial")
        assert torch.allclose(found.out[:, end - 1 : end], expected.out, atol=1e-12)
        assert torch.allclose(found.lse[:, end - 1 : end], expected.lse, atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
def test_three_sets_and_one(causal: bool) -> None:
    q, keys, values = tensors((2,), 4, 5, 6, 2, 3, size=0.6)
    _, (third, _), (value, _) = tensors((2,), 4, 4, 4, 2, 3, size=0.6)
    for k, v in (((*keys, third), (*values, value)), (keys[:1], values[:1])):
        found = tensor_attention(q, k, v, method="polynomial", degree=10, causal=causal)
        expected = tensor_attention(q, k, v, causal=causal)
        assert deviation(found, expected) <= 1e-7


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_narrow_inputs(dtype: torch.dtype) -> None:
    q, k, v = tensors((2,), 5, 300, 300, 2, 3, size=0.5, dtype=dtype)
    found = tensor_attention(q, k, v, method="polynomial", degree=6)
    assert found.out.dtype == found.lse.dtype == torch.float32
    wide = [t.double() for t in (q, *k, *v)]
    expected = tensor_attention(wide[0], wide[1:3], wide[3:], method="polynomial", degree=6)
    assert deviation(found, expected) <= 1e-5


# Streams -----------------------------------------------------------------------------------------

SETS = (0, 1, 2, 3, 16, 17, 200)
INDEX = torch.arange(len(SETS)).repeat_interleave(torch.tensor(SETS))


def test_streams_and_sets() -> None:
    """A stream of tokens, in any order and pieces, and a fold of sets: read as all pairs are."""
    d, c, scale = 3, 2, 0.4
    monoid = PolynomialAttention(d, c, degree=6)
    x = 0.7 * torch.randn(len(INDEX), 2 * (d + c), dtype=torch.float64)
    q = 0.7 * torch.randn(len(SETS), 4, d, dtype=torch.float64)
    stream = Accumulator(monoid)
    for rows in torch.randperm(len(INDEX)).split(29):
        stream.update(x[rows], INDEX[rows], dim_size=len(SETS))
    folded = segment_reduce(monoid, monoid.lift(x), INDEX, dim_size=len(SETS))
    for state in (stream.state(), folded):
        found = monoid.read(state, q, scale)
        for own, tokens in enumerate(x.split(list(SETS))):
            k1, v1, k2, v2 = tokens.split([d, c, d, c], 1)
            expected = tensor_attention(
                q[own], (k1, k2), (v1, v2), method="polynomial", degree=6, scale=scale
            )
            one = AttentionState(found.out[own], found.lse[own])
            assert deviation(one, expected) <= 1e-12


def test_prefixes_are_causal() -> None:
    monoid = PolynomialAttention(2, 2, degree=2)
    x = 0.5 * torch.randn(30, 8, dtype=torch.float64)
    q = 0.5 * torch.randn(30, 2, dtype=torch.float64)
    states = prefix_reduce(monoid, monoid.lift(x))
    found = monoid.read(states, q.unsqueeze(1), 1.0)
    k1, v1, k2, v2 = x.split(2, 1)
    expected = tensor_attention(
        q, (k1, k2), (v1, v2), method="polynomial", degree=2, scale=1.0, causal=True
    )
    one = AttentionState(found.out.squeeze(1), found.lse.squeeze(1))
    assert deviation(one, expected) <= 1e-12


def test_tokens_can_be_taken_out_again() -> None:
    monoid = PolynomialAttention(2, 2)
    x = 0.5 * torch.randn(30, 8, dtype=torch.float64)
    q = torch.randn(1, 3, 2, dtype=torch.float64)
    whole, some = (segment_reduce(monoid, monoid.lift(part)) for part in (x, x[:10]))
    rest = monoid.combine(whole, monoid.inverse(some))
    expected = segment_reduce(monoid, monoid.lift(x[10:]))
    assert deviation(monoid.read(rest, q, 0.5), monoid.read(expected, q, 0.5)) <= 1e-12


def test_parts_merge_with_exact_ones() -> None:
    """Of the first set's keys some exactly, the rest by the polynomial: within its error."""
    q, (k1, k2), (v1, v2) = tensors((2,), 4, 8, 6, 2, 3, size=0.5)
    exact = tensor_attention(q, (k1[:, :3], k2), (v1[:, :3], v2))
    rest = tensor_attention(q, (k1[:, 3:], k2), (v1[:, 3:], v2), method="polynomial", degree=8)
    expected = tensor_attention(q, (k1, k2), (v1, v2))
    assert deviation(merge(exact, rest), expected) <= 1e-7


# The error ---------------------------------------------------------------------------------------


def bounded(
    b: float, seed: int, n: int = 64, d: int = 4
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Queries and keys with entries in [-b, b]; values are normal."""
    generator = torch.Generator().manual_seed(seed)
    q, k1, k2 = (
        b * (2 * torch.rand(n, d, generator=generator, dtype=torch.float64) - 1) for _ in range(3)
    )
    v1, v2 = (torch.randn(n, d, generator=generator, dtype=torch.float64) for _ in range(2))
    return q, [k1, k2], [v1, v2]


@pytest.mark.parametrize("b", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("degree", [2, 4, 6, 8])
def test_the_error_is_within_its_bound(b: float, degree: int) -> None:
    q, k, v = bounded(b, seed=1)
    exact = tensor_attention(q, k, v, scale=0.25)
    found = tensor_attention(q, k, v, scale=0.25, method="polynomial", degree=degree)
    logits = 0.25 * torch.einsum("ic,jc,kc->ijk", q, *k)
    bound = polynomial_error(degree, float(logits.abs().max()))
    largest = (v[0].abs().amax(0) * v[1].abs().amax(0)).max()
    rounding = 1e-14
    assert (found.out - exact.out).abs().max() <= bound.out * largest + rounding
    assert (found.lse - exact.lse).abs().max() <= bound.lse + rounding


def test_the_error_that_is_asked_for() -> None:
    """Entries up to 1, 4 features, logits divided by 4, degree 6."""
    q, k, v = bounded(1.0, seed=0)
    exact = tensor_attention(q, k, v, scale=0.25)
    found = tensor_attention(q, k, v, scale=0.25, method="polynomial", degree=6)
    assert (found.out - exact.out).abs().max() <= 2e-9


@given(degree=st.sampled_from([2, 4, 8, 12]), largest=st.floats(0, 12))
def test_the_bound_is_what_the_polynomial_misses(degree: int, largest: float) -> None:
    """Its factors at both ends, in fifty digits, and of those the bounds."""
    with localcontext() as context:
        context.prec = 50
        ends = []
        for x in (Decimal(largest), -Decimal(largest)):
            terms = [x**t / math.factorial(t) for t in range(1, degree + 1)]
            ends.append((1 + sum(terms)) / x.exp())
        missed, added = 1 - ends[0], ends[1] - 1
        out = (missed + added) / (2 * ends[0])
        lse = max(-ends[0].ln(), ends[1].ln())
    found = polynomial_error(degree, largest)
    assert found.out == pytest.approx(float(out), rel=1e-9, abs=1e-40)
    assert found.lse == pytest.approx(float(lse), rel=1e-9, abs=1e-40)


@pytest.mark.parametrize("degree", [4, 6])
def test_the_bound_is_reached(degree: int) -> None:
    """By a mean of two values, one at each end, that weigh the same."""
    q = torch.ones(1, 1, dtype=torch.float64)
    k1 = torch.tensor([[1.0]] + 7 * [[-1.0]], dtype=torch.float64)  # e to e⁻¹: 7 weigh as much as 1
    v1, one = k1.sign(), torch.ones(1, 1, dtype=torch.float64)
    exact = tensor_attention(q, (k1, one), (v1, one), scale=1.0)
    found = tensor_attention(q, (k1, one), (v1, one), scale=1.0, method="polynomial", degree=degree)
    error = float((found.out - exact.out).abs())
    bound = polynomial_error(degree, 1.0).out
    assert 0.98 * bound <= error <= bound


def test_weights_that_are_rounded_below_zero_are_refused() -> None:
    """The polynomial is positive, but of terms that are a billion times as large as it is."""
    q, k = -torch.linspace(14, 15, 50, dtype=torch.float64).unsqueeze(1), torch.ones(1, 1)
    arguments: dict[str, Any] = {"method": "polynomial", "degree": 60, "scale": 1.0}
    with pytest.raises(ValueError, match=r"of 'degree' 60: .* a higher degree, or method 'exact'"):
        tensor_attention(q.float(), (k, k), (k, k), **arguments)
    found = tensor_attention(q, [k.double()] * 2, [k.double()] * 2, **arguments)
    assert torch.allclose(found.lse, q.squeeze(1), atol=1e-2)


@pytest.mark.parametrize("entry", [1e30, math.nan])
def test_weights_that_are_no_numbers_are_refused(entry: float) -> None:
    q, k = torch.tensor([[entry]]), torch.ones(1, 1)
    with pytest.raises(
        ValueError, match=r"add up to (inf|nan) .* inputs are not finite, or logits"
    ):
        tensor_attention(q, (k, k), (k, k), method="polynomial")
