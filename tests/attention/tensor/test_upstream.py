"""Defects of other implementations of 2-simplicial attention, which must not be ours.

Of ``fbgemm_gpu.experimental.simplicial_attention`` at commits bf002da and 0762d72.
"""

from __future__ import annotations

import math

import pytest
import torch

from lcm_graph.attention import attend, merge, tensor_attention
from lcm_graph.attention.tensor import FORMS
from tests.attention.tensor.reference import deviation, gradient_deviation, reference, tensors


def test_the_strassen_form_is_not_the_trilinear_one() -> None:
    """There, an ``if`` that should be an ``elif`` lets it fall through to the triple product."""
    q, k, v = tensors((2,), 5, 5, 5)
    found = tensor_attention(q, k, v, form="strassen")
    expected = reference(q, k, v, "strassen")
    assert deviation(found, expected) <= 1e-12
    assert gradient_deviation(found, expected, [q, *k, *v]) <= 1e-11
    other = tensor_attention(q, k, v, form="trilinear")
    assert (found.out - other.out).abs().max() >= 0.1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("window", [None, (3, 4)])
def test_lse_is_a_natural_logarithm_forward_and_backward(
    form: str, window: tuple[int, int] | None
) -> None:
    """There, the maximum in ``lse`` is in units of log 2 and the rest is not.

    Logits that are all the same make it the logarithm of the number of pairs plus that logit; and a
    loss of ``lse`` alone has the gradient that the backward pass must read the same ``lse`` for.
    """
    q, k, v = tensors((), 6, 6, 6, size=2.0)
    ones = torch.ones(6, 6, dtype=torch.float64)
    pairs = torch.full((6,), 36.0) if window is None else torch.tensor([1, 4, 9, 12, 12, 12])
    lse = tensor_attention(7 * ones, (ones, ones), v, form=form, window=window, scale=0.5).lse
    logit = {"trilinear": 21.0, "strassen": 45.0, "rank1": 42.0, "determinant": 0.0}[form]
    assert torch.allclose(lse, pairs.double().log() + logit, atol=1e-12)
    found = tensor_attention(q, k, v, form=form, window=window).lse.sum()
    expected = reference(q, k, v, form, window=window).lse.sum()
    grads = [torch.autograd.grad(loss, (q, *k)) for loss in (found, expected)]
    for mine, theirs in zip(*grads, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-11)


def test_biases_of_the_second_set_count() -> None:
    """There, the reference adds 1/d to its keys and 1 to its values, and the kernel does not.

    Here they are the caller's to add. Of a second set that is nothing else, ordinary attention is
    left.
    """
    q, (k1, k2), (v1, v2) = tensors((2,), 5, 6, 4)
    biased = (k1, 0 * k2 + 1 / 6), (v1, 0 * v2 + 1)
    found = tensor_attention(q, *biased)
    expected = attend(q, k1, v1, scale=6**-1.5)
    assert torch.allclose(found.out, expected.out, atol=1e-12)
    assert torch.allclose(found.lse, expected.lse + math.log(4), atol=1e-12)
    moved = tensor_attention(q, (k1, k2 + 1 / 6), (v1, v2 + 1))
    assert deviation(moved, reference(q, (k1, k2 + 1 / 6), (v1, v2 + 1))) <= 1e-12


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_of_merged_parts(form: str) -> None:
    """Which needs that of ``lse``: kernels that drop it are wrong here."""
    q, k, v = tensors((2,), 5, 6, 4)
    parts = [
        tensor_attention(q, (k[0][:, at], k[1]), (v[0][:, at], v[1]), form=form)
        for at in (slice(0, 2), slice(2, 6))
    ]
    found, expected = merge(*parts), reference(q, k, v, form)
    assert gradient_deviation(found, expected, [q, *k, *v]) <= 1e-11
