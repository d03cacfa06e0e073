"""Derivatives of any order, in both modes, and ``torch.func``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lcm_graph.attention import tensor_attention
from lcm_graph.attention.tensor import FORMS, recompute
from tests.attention.tensor.reference import tensors

CASES: dict[str, dict[str, Any]] = {
    **{form: {"form": form} for form in FORMS},
    "trilinear-window": {"window": (2, 2)},
    "strassen-causal": {"form": "strassen", "causal": True},
    "polynomial": {"method": "polynomial", "degree": 2},
    "polynomial-causal": {"method": "polynomial", "degree": 2, "causal": True},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("numbers", [1, 1 << 20], ids=["parts", "at once"])
def test_derivatives(case: str, numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """First and second, of outputs and ``lse``, also where the backward pass computes again."""
    monkeypatch.setattr(recompute, "NUMBERS", numbers)
    q, (k1, k2), (v1, v2) = tensors((), 2, 2, 3, 3, 2, size=0.7)

    def state(q: Tensor, k1: Tensor, k2: Tensor, v1: Tensor, v2: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor_attention(q, (k1, k2), (v1, v2), **CASES[case]))

    assert torch.autograd.gradcheck(state, (q, k1, k2, v1, v2), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(state, (q, k1, k2, v1, v2))


@pytest.mark.parametrize("case", CASES)
def test_functional_transforms(case: str) -> None:
    q, k, v = tensors((3,), 4, 5, 5, 3, 2, size=0.5)
    inputs = [t.detach() for t in (q, *k, *v)]

    def out(q: Tensor, k1: Tensor, k2: Tensor, v1: Tensor, v2: Tensor) -> Tensor:
        return tensor_attention(q, (k1, k2), (v1, v2), **CASES[case]).out

    expected = out(*inputs)
    assert torch.allclose(torch.func.vmap(out)(*inputs), expected, atol=1e-12)
    one = [t[0] for t in inputs]
    forward, backward = torch.func.jacfwd(out)(*one), torch.func.jacrev(out)(*one)
    assert torch.allclose(forward, backward, atol=1e-11)
    expected = torch.autograd.functional.jacobian(lambda q: out(q, *one[1:]), one[0])
    assert torch.allclose(forward, expected, atol=1e-11)
