"""Every form of exact tensor attention against a loop, in values and gradients."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from torch import Tensor

from lcm_graph.attention import AttentionState, attend, merge, tensor_attention
from lcm_graph.attention.tensor import FORMS, recompute
from tests.attention.tensor.reference import (
    SIZES,
    deviation,
    gradient_deviation,
    reference,
    tensors,
)

SEEN: dict[str, dict[str, Any]] = {
    "all": {},
    "causal": {"causal": True},
    "windows": {"window": (3, 2)},
    "one window": {"window": (2, 99)},
    "other window": {"window": (99, 1)},
}


@pytest.fixture(params=["in parts", "at once"])
def parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both a few queries (or channels) at a time, and all."""
    if request.param == "in parts":
        monkeypatch.setattr(recompute, "NUMBERS", 1500)


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize(("n", "m1", "m2"), SIZES)
def test_values_and_gradients(form: str, seen: str, n: int, m1: int, m2: int) -> None:
    q, k, v = tensors((2,) if n < 17 else (), n, m1, m2)
    found = tensor_attention(q, k, v, form=form, **SEEN[seen])
    expected = reference(q, k, v, form, **SEEN[seen])
    assert deviation(found, expected) <= 1e-12
    assert gradient_deviation(found, expected, [q, *k, *v]) <= 1e-11


@pytest.mark.parametrize("form", FORMS)
def test_many_keys(form: str) -> None:
    """More than attention takes at once, with gradients and without."""
    q, k, v = tensors((), 2, 3, 700)
    expected = reference(q, k, v, form)
    assert deviation(tensor_attention(q, k, v, form=form), expected) <= 1e-11
    assert gradient_deviation(tensor_attention(q, k, v, form=form), expected, [q, *k, *v]) <= 1e-10
    with torch.no_grad():
        assert deviation(tensor_attention(q, k, v, form=form), expected) <= 1e-11


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seen", ["all", "causal", "windows"])
@pytest.mark.parametrize(("n", "m1", "m2"), [(0, 3, 2), (3, 0, 2), (3, 2, 0), (0, 0, 0)])
def test_nothing_to_ask_or_to_see(form: str, seen: str, n: int, m1: int, m2: int) -> None:
    q, k, v = tensors((2, 3), n, m1, m2)
    found = tensor_attention(q, k, v, form=form, **SEEN[seen])
    assert found.out.shape == (2, 3, n, 2) and (found.out == 0).all()
    assert found.lse.shape == (2, 3, n) and (found.lse == -math.inf).all()
    found.out.sum().backward()
    assert q.grad is not None and (q.grad == 0).all()


@pytest.mark.parametrize("form", FORMS)
def test_no_batch(form: str) -> None:
    q, k, v = tensors((0, 2), 3, 4, 5)
    found = tensor_attention(q, k, v, form=form)
    assert found.out.shape == (0, 2, 3, 2) and found.lse.shape == (0, 2, 3)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_narrow_inputs(form: str, dtype: torch.dtype) -> None:
    """Computed in float32, so that rounding is that of the inputs alone."""
    q, k, v = tensors((2,), 5, 6, 7, dtype=dtype)
    found = tensor_attention(q, k, v, form=form)
    assert found.out.dtype == found.lse.dtype == torch.float32
    wide = [t.double() for t in (q, *k, *v)]
    expected = reference(wide[0], (wide[1], wide[2]), (wide[3], wide[4]), form)
    assert deviation(found, expected) <= 1e-5
    (found.out.sum() + found.lse.sum()).backward()
    assert q.grad is not None and q.grad.dtype == dtype


@pytest.mark.parametrize("arguments", [*({"form": f} for f in FORMS), {"method": "polynomial"}])
def test_autocast_does_not_narrow(arguments: dict[str, Any]) -> None:
    q, k, v = tensors((2,), 5, 6, 7, size=0.5, dtype=torch.float32)
    expected = tensor_attention(q, k, v, **arguments)
    with torch.autocast("cpu", torch.bfloat16):
        found = tensor_attention(q, k, v, **arguments)
    assert deviation(found, expected) == 0
    assert gradient_deviation(found, expected, [q, *k, *v]) == 0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seen", ["all", "windows"])
def test_shared_heads(form: str, seen: str) -> None:
    """Of six heads of queries each two share the first set's, and all share the second's."""
    q, (k1, _), (v1, _) = tensors((6,), 4, 5, 5)
    k1, v1 = k1[:3], v1[:3]
    _, (_, k2), (_, v2) = tensors((1,), 4, 5, 5)
    found = tensor_attention(q, (k1, k2), (v1, v2), form=form, **SEEN[seen])
    expected = reference(q, (k1, k2), (v1, v2), form, **SEEN[seen])
    assert deviation(found, expected) <= 1e-12
    assert gradient_deviation(found, expected, [q, k1, k2, v1, v2]) <= 1e-11


@pytest.mark.parametrize("form", FORMS)
def test_batches_of_heads(form: str) -> None:
    q, k, v = tensors((2, 3), 4, 5, 6)
    found = tensor_attention(q, k, v, form=form)
    for batch in range(2):
        own = [(both[0][batch], both[1][batch]) for both in (k, v)]
        expected = tensor_attention(q[batch], *own, form=form)
        assert deviation(AttentionState(found.out[batch], found.lse[batch]), expected) <= 1e-12


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("logit", [1e4, 1e5])
def test_huge_logits(form: str, logit: float) -> None:
    """The largest pair wins; nothing overflows, in the gradients neither."""
    q, k, v = tensors((2,), 5, 6, 7)
    with torch.no_grad():
        q *= logit
    found, expected = tensor_attention(q, k, v, form=form), reference(q, k, v, form)
    assert found.lse.abs().max() > logit
    assert deviation(found, expected) <= 1e-9 * logit
    (found.out.sum() + found.lse.sum()).backward()
    assert all(t.grad is not None and t.grad.isfinite().all() for t in (q, *k, *v))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", [1, 2, 16, 17])
def test_windows_as_wide_as_the_sequence_are_causal(form: str, n: int) -> None:
    q, k, v = tensors((2,), n, n, n)
    found = tensor_attention(q, k, v, form=form, window=(n, n))
    assert deviation(found, tensor_attention(q, k, v, form=form, causal=True)) <= 1e-12


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("arguments", [{"causal": True}, {"window": (4, 3)}], ids=str)
def test_no_query_sees_what_comes_after_it(form: str, arguments: dict[str, Any]) -> None:
    q, k, v = tensors((), 9, 9, 9)
    found = tensor_attention(q, k, v, form=form, **arguments)
    later = [[torch.cat([t[:6], 7 * torch.randn_like(t[6:])]) for t in both] for both in (k, v)]
    again = tensor_attention(q, later[0], later[1], form=form, **arguments)
    assert torch.allclose(found.out[:6], again.out[:6], atol=1e-12)
    assert not torch.allclose(found.out[6:], again.out[6:], atol=1e-3)


def test_windows_hold_no_more_than_they_see() -> None:
    """Of a long sequence: n w1 w2 logits, and windows of keys that are not copied for each."""
    n = 20_000
    q, k, v = (torch.randn(n, 2), [torch.randn(n, 2)] * 2, [torch.randn(n, 2)] * 2)
    found = tensor_attention(q, k, v, window=(3, 2))
    for i in (0, 1, 2, 777, n - 1):
        own = [
            [t[max(0, i + 1 - w) : i + 1] for t, w in zip(s, (3, 2), strict=True)] for s in (k, v)
        ]
        expected = tensor_attention(q[i : i + 1], own[0], own[1])
        assert torch.allclose(found.out[i], expected.out[0], atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_memory_of_training(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept for the backward pass is far less than a logit for each triple."""
    n = 40
    monkeypatch.setattr(recompute, "NUMBERS", 8 * n * n)
    q, k, v = tensors((), n, n, n, 3, 3)
    kept: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        state = tensor_attention(q, k, v, form=form)
    assert sum(kept) <= n**3 / 2
    expected = reference(q, k, v, form)
    assert gradient_deviation(state, expected, [q, *k, *v]) <= 1e-11


@given(
    form=st.sampled_from(FORMS),
    sizes=st.tuples(*[st.integers(0, 5)] * 3),
    cuts=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    seed=st.integers(0, 99),
)
def test_parts_of_the_pairs_merge(
    form: str, sizes: tuple[int, int, int], cuts: tuple[int, int], seed: int
) -> None:
    """All pairs of parts of both sets make up all pairs: mini-batch consistency."""
    torch.manual_seed(seed)
    q, k, v = tensors((2,), *sizes)
    expected = tensor_attention(q, k, v, form=form)
    halves = [
        [(one[:, :cut], other[:, :cut]), (one[:, cut:], other[:, cut:])]
        for one, other, cut in zip(k, v, cuts, strict=True)
    ]
    states = [
        tensor_attention(q, (k1, k2), (v1, v2), form=form)
        for k1, v1 in halves[0]
        for k2, v2 in halves[1]
    ]
    assert deviation(merge(*states), expected) <= 1e-12


@given(form=st.sampled_from(FORMS), seed=st.integers(0, 99))
def test_keys_in_any_order(form: str, seed: int) -> None:
    torch.manual_seed(seed)
    q, k, v = tensors((), 3, 4, 5)
    orders = torch.randperm(4), torch.randperm(5)
    mixed = [tuple(t[o] for t, o in zip(both, orders, strict=True)) for both in (k, v)]
    found = tensor_attention(q, mixed[0], mixed[1], form=form)
    assert deviation(found, tensor_attention(q, k, v, form=form)) <= 1e-12


@pytest.mark.parametrize("form", ["trilinear", "strassen", "rank1"])
@pytest.mark.parametrize("seen", ["all", "causal"])
def test_sets_change_places(form: str, seen: str) -> None:
    """Forms that are symmetric in both keys; a determinant changes its sign."""
    q, k, v = tensors((), 4, 5, 6)
    found = tensor_attention(q, k[::-1], v[::-1], form=form, **SEEN[seen])
    assert deviation(found, tensor_attention(q, k, v, form=form, **SEEN[seen])) <= 1e-12


def test_determinants_do_not_see_rotations() -> None:
    """Of all vectors at once, a rotation for each chunk of three features."""
    q, k, v = tensors((2,), 4, 5, 6, 6)
    turned = []
    rotations = [torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q for _ in range(2)]
    rotations = [turn * torch.linalg.det(turn) for turn in rotations]  # none is a reflection
    for tensor in (q, *k):
        chunks = zip(tensor.split(3, -1), rotations, strict=True)
        turned.append(torch.cat([chunk @ turn for chunk, turn in chunks], -1))
    for form in ("determinant", "trilinear"):
        before = tensor_attention(q, k, v, form=form)
        after = tensor_attention(turned[0], (turned[1], turned[2]), v, form=form)
        gap = (before.out - after.out).detach().abs().max()
        assert gap <= 1e-12 if form == "determinant" else gap >= 1e-2


@pytest.mark.parametrize("form", ["trilinear", "rank1"])
@pytest.mark.parametrize("seen", ["all", "causal", "windows"])
def test_three_sets_and_one(form: str, seen: str) -> None:
    """Any number of sets: all combinations, by an outer sum; and one is ordinary attention."""
    n, sizes = 4, (4, 5, 6)
    q = torch.randn(2, n, 3, dtype=torch.float64, requires_grad=True)
    k = [torch.randn(2, m, 3, dtype=torch.float64, requires_grad=True) for m in sizes]
    v = [torch.randn(2, m, 2, dtype=torch.float64, requires_grad=True) for m in sizes]
    window = {"all": None, "causal": sizes, "windows": (2, 9, 3)}[seen]
    arguments: dict[str, Any] = {"causal": seen == "causal"}
    if seen == "windows":
        arguments["window"] = window
    if form == "trilinear":
        logits = torch.einsum("bid,bjd,bkd,bld->bijkl", q, *k)
    else:
        one, two, three = (q @ keys.mT for keys in k)
        logits = one[..., None, None] + two[:, :, None, :, None] + three[:, :, None, None, :]
    logits = 0.5 * logits
    if window is not None:
        for dim, (m, width) in enumerate(zip(sizes, window, strict=True), 2):
            place = torch.arange(n)[:, None] + m - n
            key = torch.arange(m)
            hidden = (key > place) | (key <= place - width)
            shape = [1, n, 1, 1, 1]
            shape[dim] = m
            logits = logits.masked_fill(hidden.view(shape), -torch.inf)
    weights = logits.flatten(2).softmax(2).view_as(logits)
    expected = AttentionState(
        torch.einsum("bijkl,bjc,bkc,blc->bic", weights, *v), logits.flatten(2).logsumexp(2)
    )
    found = tensor_attention(q, k, v, form=form, scale=0.5, **arguments)
    assert deviation(found, expected) <= 1e-12
    assert gradient_deviation(found, expected, [q, *k, *v]) <= 1e-11
    alone = tensor_attention(q, k[:1], v[:1], form=form, scale=0.5, causal=seen == "causal")
    assert deviation(alone, attend(q, k[0], v[0], scale=0.5, causal=seen == "causal")) <= 1e-12


def test_rank_one_is_a_product_of_attentions() -> None:
    """Torch's own, which know nothing of pairs."""
    q, k, v = tensors((2, 3), 5, 6, 7)
    one, other = (F.scaled_dot_product_attention(q, k[s], v[s]) for s in (0, 1))
    found = tensor_attention(q, k, v, form="rank1").out
    assert torch.allclose(found, one * other, atol=1e-12)
