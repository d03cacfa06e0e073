"""What every way of choosing keys has in common: with all of them, it is attention."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lcm_graph.attention import AttentionState, attend, merge
from lcm_graph.attention.selective import (
    BlockBudget,
    KeyIndex,
    centroid_scores,
    global_threshold,
    hierarchical_clusters,
    hyper_attention,
    observation_scores,
    redundancy_scores,
    selective_attention,
    top_fraction,
    top_tokens,
)
from tests.references import error

B, H, SHARED, N, M, D, C = 2, 4, 2, 5, 37, 8, 6

System = Callable[[Tensor, Tensor, Tensor, float], AttentionState]


def squeezed(tail: str, order: int = 1) -> System:
    def system(q: Tensor, k: Tensor, v: Tensor, fraction: float) -> AttentionState:
        index = KeyIndex.build(k, v, clusters=6, order=order)
        kept = top_fraction(centroid_scores(q, index), fraction, index.summary.size)
        return selective_attention(q, index, clusters=kept, tail=tail)

    return system


def by_tokens(score: Callable[[Tensor, Tensor], Tensor]) -> System:
    def system(q: Tensor, k: Tensor, v: Tensor, fraction: float) -> AttentionState:
        index = KeyIndex.build(k, v, clusters=6, partition="blocks")
        kept = top_tokens(score(q, k), math.ceil(fraction * k.size(2)))
        return selective_attention(q, index, tokens=kept)

    return system


def hierarchical(q: Tensor, k: Tensor, v: Tensor, fraction: float) -> AttentionState:
    index = KeyIndex.build(k, v, clusters=8, coarse=3)
    kept, _ = hierarchical_clusters(q, index, fraction, coarse_fraction=max(fraction, 0.5))
    return selective_attention(q, index, clusters=kept)


def blocks(q: Tensor, k: Tensor, v: Tensor, fraction: float) -> AttentionState:
    index = KeyIndex.build(k, v, clusters=5, partition="blocks")
    budget = BlockBudget(block=8, mu=math.log2(max(1.0, 8 * fraction)), sigma=0)
    return selective_attention(q, index, tokens=budget.tokens(redundancy_scores(q, k)))


def hyper(q: Tensor, k: Tensor, v: Tensor, fraction: float) -> AttentionState:
    generator = torch.Generator().manual_seed(0)
    size = max(2, math.ceil(fraction * k.size(2)))
    return hyper_attention(q, k, v, block_size=size, samples=4, generator=generator)


def one_threshold(q: Tensor, k: Tensor, v: Tensor, fraction: float) -> AttentionState:
    index = KeyIndex.build(k, v, clusters=6)
    scores = centroid_scores(q, index)
    threshold = global_threshold([scores], [index.summary.size], fraction)
    return selective_attention(q, index, clusters=scores > threshold)


SYSTEMS: dict[str, System] = {
    "one threshold": one_threshold,
    "squeezed-drop": squeezed("drop"),
    "squeezed-summary": squeezed("summary"),
    "squeezed-summary-2": squeezed("summary", order=2),
    "squeezed-sample": squeezed("sample"),
    "hierarchical": hierarchical,
    "observation": by_tokens(observation_scores),
    "redundancy": by_tokens(lambda q, k: -redundancy_scores(q, k)),
    "similar": by_tokens(lambda q, k: -redundancy_scores(q, k, kind="similar")),
    "blocks": blocks,
    "hyper": hyper,
}


def inputs(dtype: torch.dtype = torch.float32, heads: int = SHARED) -> list[Tensor]:
    return [
        torch.randn(B, H, N, D).to(dtype),
        torch.randn(B, heads, M, D).to(dtype),
        torch.randn(B, heads, M, C).to(dtype),
    ]


def repeated(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    times = q.size(1) // k.size(1)
    return q, k.repeat_interleave(times, 1), v.repeat_interleave(times, 1)


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("name", SYSTEMS)
def test_the_full_budget_is_attention(name: str, heads: int) -> None:
    """Values and gradients, on random cotangents."""
    q, k, v = (t.double().requires_grad_() for t in inputs(heads=heads))
    found = SYSTEMS[name](q, k, v, 1.0).out
    expected = F.scaled_dot_product_attention(*repeated(q, k, v))
    assert error(found, expected) <= 1e-10
    cotangent = torch.randn_like(expected)
    grads = [torch.autograd.grad(out, (q, k, v), cotangent) for out in (found, expected)]
    for mine, theirs in zip(*grads, strict=True):
        assert error(mine, theirs) <= 1e-10


@pytest.mark.parametrize("name", SYSTEMS)
def test_half_precision(name: str) -> None:
    """Logits and states in float32; with all keys, the answer is that of float32."""
    q, k, v = inputs(torch.bfloat16)
    found = SYSTEMS[name](q, k, v, 1.0)
    assert found.out.dtype == found.lse.dtype == torch.float32
    expected = F.scaled_dot_product_attention(*repeated(q.float(), k.float(), v.float()))
    assert error(found.out, expected) <= 1e-5


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", SYSTEMS)
def test_huge_logits_and_small_budgets(name: str, fraction: float) -> None:
    """Logits of ±1e4, and selections of little or nothing: no number is lost."""
    q, k, v = inputs()
    q, k, v = (1e4 * q).requires_grad_(), k.requires_grad_(), v.requires_grad_()
    found = SYSTEMS[name](q, k, v, fraction)
    assert found.out.isfinite().all() and not found.lse.isnan().any()
    # A summary of second order lies beside the values, by no more than N keys can.
    limit = 1 if name != "squeezed-summary-2" else 1 + 2 * math.sqrt(2 * math.log(M))
    assert float(found.out.detach().abs().max()) <= limit * float(v.detach().abs().max()) + 1e-5
    grads = torch.autograd.grad(found.out.sum(), (q, k, v), allow_unused=True)
    assert all(grad is None or bool(grad.isfinite().all()) for grad in grads)


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("name", SYSTEMS)
def test_huge_logits_at_the_full_budget(name: str, heads: int) -> None:
    """Values and gradients of attention whose logits reach ±1e4."""
    q, k, v = (t.double() for t in inputs(heads=heads))
    q = 1e4 * q
    assert float((q @ repeated(q, k, v)[1].mT).abs().max()) / D**0.5 > 1e4
    q, k, v = q.requires_grad_(), k.requires_grad_(), v.requires_grad_()
    expected = F.scaled_dot_product_attention(*repeated(q, k, v))
    found = SYSTEMS[name](q, k, v, 1.0).out
    assert error(found, expected) <= 1e-10
    cotangent = torch.randn_like(expected)
    grads = [torch.autograd.grad(out, (q, k, v), cotangent) for out in (found, expected)]
    for mine, theirs in zip(*grads, strict=True):
        assert float((mine - theirs).abs().max()) <= 1e-5


@pytest.mark.parametrize(("tail", "seen"), [("drop", 0), ("summary", M), ("sample", M)])
def test_nothing_is_chosen(tail: str, seen: int) -> None:
    """What is left is the tail; without one, a state of no keys, that changes no other."""
    q, k, v = inputs()
    index = KeyIndex.build(k, v, clusters=6)
    none = torch.zeros_like(index.summary.size, dtype=torch.bool)
    found = selective_attention(q, index, clusters=none, tail=tail)
    assert ((found.lse == -math.inf).all() and (found.out == 0).all()) == (seen == 0)
    other = attend(q, k, v)
    merged = merge(other, found)
    assert torch.equal(merged.out, other.out) == (seen == 0)


@pytest.mark.parametrize("tail", ["drop", "summary"])
def test_the_order_of_keys(tail: str) -> None:
    """Does not matter where it is not drawn from."""
    q, k, v = (t.double() for t in inputs())
    order = torch.randperm(M)
    labels = torch.arange(M) % 6
    index = KeyIndex.build(k, v, partition=labels)
    shuffled = KeyIndex.build(k[:, :, order], v[:, :, order], partition=labels[order])
    kept = top_fraction(centroid_scores(q, index), 0.4, index.summary.size)
    again = top_fraction(centroid_scores(q, shuffled), 0.4, shuffled.summary.size)
    assert torch.equal(kept, again) and kept.any() and not kept.all()
    one = selective_attention(q, index, clusters=kept, tail=tail)
    other = selective_attention(q, shuffled, clusters=again, tail=tail)
    assert error(one.out, other.out) <= 1e-12


def test_context_before_and_after() -> None:
    """A prompt that was indexed, and tokens after it that see it and each other causally."""
    q, k, v = (t.double() for t in inputs())
    new_k, new_v = torch.randn(B, SHARED, N, D).double(), torch.randn(B, SHARED, N, C).double()
    index = KeyIndex.build(k, v, clusters=6)
    everything = torch.ones_like(index.summary.size, dtype=torch.bool)
    found = merge(
        selective_attention(q, index, clusters=everything), attend(q, new_k, new_v, causal=True)
    )
    expected = attend(q, torch.cat([k, new_k], 2), torch.cat([v, new_v], 2), causal=True)
    assert error(found.out, expected.out) <= 1e-12 and error(found.lse, expected.lse) <= 1e-12
