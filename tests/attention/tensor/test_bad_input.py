"""What is refused, and what is said."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lcm_graph.attention import PolynomialAttention, polynomial_error, tensor_attention

Q, K, V = torch.ones(1, 4, 3, 6), torch.ones(1, 2, 5, 6), torch.ones(1, 2, 5, 2)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda: tensor_attention(Q, K, (V, V)),  # type: ignore[arg-type]
            r"'k' must be a tuple of tensors, one of each set \(got a tensor \[1, 2, 5, 6\]\)",
        ),
        (lambda: tensor_attention(Q, (), ()), r"'k' must be a tuple .* \(got \(\)\)"),
        (lambda: tensor_attention(Q, (K, K), (V,)), "got 2 of keys and 1 of values"),
        (lambda: tensor_attention(Q[0, 0, 0], (K,), (V,)), "'q' must be floating point"),
        (lambda: tensor_attention(Q, (K, K.long()), (V, V)), r"'k\[1\]' must be floating point"),
        (
            lambda: tensor_attention(Q, (K, K), (V, V.double())),
            r"'v\[1\]' must be torch.float32 on cpu as 'q' is \(got torch.float64 on cpu\)",
        ),
        (lambda: tensor_attention(Q[..., :0], (K,), (V,)), "'q' must have one feature or more"),
        (lambda: tensor_attention(Q, (K, K[..., :3]), (V, V)), r"'k\[1\]' .* D with 'q'"),
        (lambda: tensor_attention(Q, (K, K[0]), (V, V[0])), "as many dimensions"),
        (lambda: tensor_attention(Q, (K, K), (V, V[:, :, 1:])), "M in common"),
        (lambda: tensor_attention(Q, (K, K), (V, V[..., 1:])), r"C with 'v\[0\]'"),
        (
            lambda: tensor_attention(Q[:, :3], (K, K), (V, V)),
            r"'k\[0\]' must have the batch of 'q', and its heads or a divisor of their number",
        ),
        (
            lambda: tensor_attention(Q, (K, K), (V, V), window=(2,)),
            r"'window' must have one width for each of the 2 sets of keys \(got \(2,\)\)",
        ),
        (lambda: tensor_attention(Q, (K, K), (V, V), window=3), "got 3"),  # type: ignore[arg-type]
        (
            lambda: tensor_attention(Q, (K, K), (V, V), window=(2, 0)),
            "'window' must be a positive integer .got 0",
        ),
        (
            lambda: tensor_attention(Q, (K, K), (V, V), form="quadratic"),
            "'form' must be one of trilinear, strassen, rank1, determinant .got 'quadratic'",
        ),
        (
            lambda: tensor_attention(Q, (K, K), (V, V), method="poly"),
            "'method' must be one of exact, polynomial .got 'poly'",
        ),
        (
            lambda: tensor_attention(Q, (K,) * 3, (V,) * 3, form="strassen"),
            "'k' must have two sets for form 'strassen' .got 3",
        ),
        (
            lambda: tensor_attention(Q, (K, K), (V, V), form="rank1", method="polynomial"),
            "'method' must be 'exact' for form 'rank1'",
        ),
        (
            lambda: tensor_attention(Q, (K, K), (V, V), method="polynomial", window=(2, 2)),
            "'window' goes with method 'exact'",
        ),
        (
            lambda: tensor_attention(Q, (K, K), (V, V), method="polynomial", degree=3),
            "'degree' must be even: polynomials of odd degree give negative weights .got 3",
        ),
        (
            lambda: tensor_attention(Q[..., :4], (K[..., :4],) * 2, (V, V), form="determinant"),
            "'q' must have a multiple of 3 features for form 'determinant' .got 4",
        ),
        (lambda: PolynomialAttention(2, 2, degree=0), "'degree' must be a positive integer"),
        (lambda: PolynomialAttention(2, 2, order=0), "'order' must be a positive integer"),
        (lambda: PolynomialAttention(64, 2, degree=6), "makes 131,115,985 products of 64 features"),
        (lambda: PolynomialAttention(2, 2).lift(torch.ones(3, 7)), r"takes elements \[n, 8\]"),
        (lambda: polynomial_error(5, 1.0), "'degree' must be even"),
        (lambda: polynomial_error(4, -1.0), "'largest' must be from 0 to 700 .got -1.0"),
        (lambda: polynomial_error(4, float("nan")), "'largest' must be from 0"),
    ],
)
def test_bad_input(call: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()
