"""The Strassen form's matrix products: when they answer, and when they cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lcm_graph.attention import AttentionState, tensor_attention
from lcm_graph.attention.tensor import strassen
from lcm_graph.attention.tensor.inputs import Inputs
from lcm_graph.attention.tensor.nested import nested_attention
from tests.attention.tensor.reference import deviation, tensors


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The forms that the nested fold was asked for."""
    forms: list[str] = []

    def noted(inputs: Inputs, form: str) -> AttentionState:
        forms.append(form)
        return nested_attention(inputs, form)

    monkeypatch.setattr(strassen, "nested_attention", noted)
    return forms


@pytest.mark.parametrize(
    ("arguments", "nested"),
    [
        ({}, False),
        ({"causal": True}, False),
        ({"window": (99, 99)}, False),
        ({"window": (2, 99)}, True),
    ],
    ids=str,
)
def test_matrix_products_answer(asked: list[str], arguments: dict[str, Any], nested: bool) -> None:
    """Unless windows make the fold cheaper."""
    q, k, v = tensors((2,), 6, 7, 8, size=2.0)
    tensor_attention(q, k, v, form="strassen", **arguments)
    assert asked == ["strassen"] * nested


def test_queries_that_see_nothing(asked: list[str]) -> None:
    """More queries than keys, causal: the first see none, and that is no loss of precision."""
    q, k, v = tensors((), 7, 4, 5)
    found = tensor_attention(q, k, v, form="strassen", causal=True)
    assert not asked and (found.lse[:3] == -torch.inf).all() and found.lse[3:].isfinite().all()
    found.out.sum().backward()
    assert q.grad is not None and q.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("far", [1.0, 30.0, 80.0, 300.0, 1000.0])
def test_where_no_pair_is_large_in_all_three(
    asked: list[str], dtype: torch.dtype, far: float
) -> None:
    """The query goes with one pair of the second set's keys, the first set's with the other."""
    basis = far**0.5 * torch.eye(3, dtype=dtype)
    q = (basis[0] + basis[2]).unsqueeze(0).requires_grad_()
    k1 = torch.stack([basis[0] + basis[1], 0 * basis[0]])
    k2 = torch.stack([basis[1], basis[2]])
    v1, v2 = torch.tensor([[2.0], [3.0]], dtype=dtype), torch.tensor([[5.0], [7.0]], dtype=dtype)
    found = tensor_attention(q, (k1, k2), (v1, v2), form="strassen", scale=1.0)
    logits = torch.tensor([2 * far, 2 * far, 0.0, far], dtype=torch.float64)  # pairs 00, 01, 10, 11
    values = torch.tensor([10.0, 14.0, 15.0, 21.0], dtype=torch.float64)
    assert found.lse.item() == pytest.approx(float(logits.logsumexp(0)), rel=1e-6)
    assert found.out.item() == pytest.approx(float(logits.softmax(0) @ values), rel=1e-6)
    grad = torch.autograd.grad(found.lse.sum() + found.out.sum(), q)[0]
    wide = q.detach().double().requires_grad_()
    inputs = [[t.double().unsqueeze(0) for t in both] for both in ((k1, k2), (v1, v2))]
    nested = nested_attention(
        Inputs(wide.unsqueeze(0), tuple(inputs[0]), tuple(inputs[1]), 1.0, (None, None)), "strassen"
    )
    expected = torch.autograd.grad(nested.lse.sum() + nested.out.sum(), wide)[0]
    assert torch.allclose(grad.double(), expected, rtol=1e-5, atol=1e-5)
    assert bool(asked) == (far > {torch.float32: 71, torch.float64: 671}[dtype])


def compare(change: Callable[[Tensor], Tensor]) -> float:
    q, k, v = tensors((2,), 6, 6, 6)
    q = change(q)
    found = tensor_attention(q, k, v, form="strassen")
    flat = [t.reshape(2, 6, -1) for t in (q, *k, *v)]
    inputs = Inputs(flat[0], (flat[1], flat[2]), (flat[3], flat[4]), 6**-0.5, (None, None))
    return deviation(found, nested_attention(inputs, "strassen"))


@pytest.mark.parametrize("times", [0.0, 1.0, 10.0, 100.0, 1000.0])
def test_both_ways_agree(times: float) -> None:
    assert compare(lambda q: times * q) <= 1e-10
