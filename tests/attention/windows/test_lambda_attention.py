"""Λ-shaped attention against a dense mask."""

from __future__ import annotations

import math
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lcm_graph.attention import AttentionState, attend
from lcm_graph.attention.windows import Rope, lambda_attention
from tests.references import error

D = 8


def dense(
    q: Tensor, k: Tensor, v: Tensor, window: int, first: int, rope: Rope | None, limit: int
) -> AttentionState:
    """One query and one key at a time."""
    n, m, times = q.size(2), k.size(2), q.size(1) // k.size(1)
    k, v = k.repeat_interleave(times, 1), v.repeat_interleave(times, 1)
    logits = torch.full((*q.shape[:3], m), -math.inf, dtype=q.dtype)
    for i in range(n):
        place = m - n + i
        for j in range(place + 1):
            distance = place - j
            if distance >= window and j >= first:
                continue
            one, other = q[:, :, i : i + 1], k[:, :, j : j + 1]
            if rope is not None:
                seeming = distance if distance < window else limit
                one = rope(one, torch.tensor([seeming]))
            logits[:, :, i, j] = (one @ other.mT).squeeze((-1, -2)) / D**0.5
    return AttentionState(logits.softmax(-1) @ v, logits.logsumexp(-1))


def inputs(n: int, m: int, heads: int = 2, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    shapes = ((2, 4, n, D), (2, heads, m, D), (2, heads, m, 5))
    return [torch.randn(*shape, dtype=torch.float64).to(dtype) for shape in shapes]


@pytest.mark.parametrize("rope", [None, Rope(D)], ids=["plain", "rope"])
@pytest.mark.parametrize(("window", "first"), [(1, 0), (1, 3), (4, 0), (4, 2), (7, 30), (40, 3)])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 25), (3, 4), (16, 17), (25, 25)])
def test_values_and_gradients(n: int, m: int, window: int, first: int, rope: Rope | None) -> None:
    q, k, v = (t.requires_grad_() for t in inputs(n, m))
    found = lambda_attention(
        q, k, v, window=window, n_global=first, rope=rope, distance_limit=window + 2
    )
    expected = dense(q, k, v, window, first, rope, window + 2)
    assert error(found.out, expected.out) <= 1e-10
    assert error(found.lse, expected.lse) <= 1e-10
    cotangents = torch.randn_like(found.out), torch.randn_like(found.lse)
    grads = [torch.autograd.grad(tuple(s), (q, k, v), cotangents) for s in (found, expected)]
    for mine, theirs in zip(*grads, strict=True):
        assert error(mine, theirs) <= 1e-10


def test_within_the_window_it_is_causal_attention() -> None:
    q, k, v = inputs(20, 20, heads=4, dtype=torch.float32)
    found = lambda_attention(q, k, v, window=20)
    assert error(found.out, F.scaled_dot_product_attention(q, k, v, is_causal=True)) <= 1e-5
    half = lambda_attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), window=20)
    a, b, c = (t.bfloat16().float() for t in (q, k, v))
    assert half.out.dtype == torch.float32
    assert error(half.out, F.scaled_dot_product_attention(a, b, c, is_causal=True)) <= 1e-5
    huge = lambda_attention(1e4 * q, k, v, window=5)
    assert huge.out.isfinite().all() and huge.lse.isfinite().all()


def test_keys_that_a_cache_has_kept() -> None:
    """Positions go on where tokens were lost."""
    q, k, v = inputs(1, 12)
    rope = Rope(D)
    positions = torch.tensor([0, 1, *range(90, 100)])
    found = lambda_attention(q, k, v, window=6, n_global=2, rope=rope, positions=positions)
    shifted = lambda_attention(q, k, v, window=6, n_global=2, rope=rope)
    assert error(found.out, shifted.out) <= 1e-10  # only distances within the window count


def test_memory_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """No array of all logits: the largest that is made grows with the window."""
    asked: list[int] = []

    def counted(q: Tensor, k: Tensor, v: Tensor, **rest: object) -> AttentionState:
        asked.append(q.size(0) * q.size(2) * k.size(2))
        return attend(q, k, v, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr("lcm_graph.attention.windows.lambda_mask.attend", counted)
    q, k, v = (torch.randn(1, 1, 1000, D) for _ in range(3))
    lambda_attention(q, k, v, window=10, n_global=4)
    assert max(asked) <= 1000 * 20


def test_rope() -> None:
    """Logits depend on distances; a turn back undoes one; as Llama's."""
    rope = Rope(D)
    q, k = torch.randn(5, D, dtype=torch.float64), torch.randn(5, D, dtype=torch.float64)
    at = torch.arange(5)
    logits = rope(q, at) @ rope(k, at).T
    assert error(rope(q, at + 1000) @ rope(k, at + 1000).T, logits) <= 1e-9
    assert error(rope(rope(q, at), -at), q) <= 1e-12
    angle = 3 * 10_000 ** (-torch.arange(4, dtype=torch.float64) / 4)
    for pair in range(4):
        turned = torch.complex(q[3, pair], q[3, pair + 4]) * torch.polar(
            torch.ones((), dtype=torch.float64), angle[pair]
        )
        assert rope(q, at)[3, pair] == pytest.approx(float(turned.real))
        assert rope(q, at)[3, pair + 4] == pytest.approx(float(turned.imag))
    assert rope(q.bfloat16(), at).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda q, k, v: lambda_attention(q, k, v, window=0), "'window' must be at least 1"),
        (lambda q, k, v: lambda_attention(q, k, v, window=1, n_global=-1), "'n_global' must be"),
        (
            lambda q, k, v: lambda_attention(q, k, v, window=1, distance_limit=-1),
            "'distance_limit' must be",
        ),
        (lambda q, k, v: lambda_attention(k, q, q, window=1), "must be the last of as many tokens"),
        (
            lambda q, k, v: lambda_attention(q, k, v, window=cast(int, 1.5)),
            "'window' must be an int",
        ),
        (lambda q, k, v: lambda_attention(q, k, v, window=1, rope=Rope(2)), "'rope' must turn"),
        (lambda q, k, v: Rope(3), "'features' must be even"),
        (lambda q, k, v: Rope(4, frequencies=torch.ones(3)), r"'frequencies' must be \[2\]"),
        (lambda q, k, v: Rope(4)(q, torch.arange(3)), r"'x' must be \[..., n, 4\]"),
    ],
)
def test_bad_input(call: object, says: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=says):
        call(*inputs(3, 5, heads=4))
