"""``tensor_attention``: what queries gather of pairs of keys, as a state."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lcm_graph.attention.states import AttentionState
from lcm_graph.attention.tensor.determinant import as_trilinear
from lcm_graph.attention.tensor.factored import factored_attention
from lcm_graph.attention.tensor.inputs import Inputs, check_inputs, with_lead_of
from lcm_graph.attention.tensor.monomials import check_degree
from lcm_graph.attention.tensor.near_linear import polynomial_attention
from lcm_graph.attention.tensor.nested import nested_attention
from lcm_graph.attention.tensor.strassen import strassen_attention

FORMS = ("trilinear", "strassen", "rank1", "determinant")
METHODS = ("exact", "polynomial")


def tensor_attention(
    q: Tensor,
    k: Sequence[Tensor],
    v: Sequence[Tensor],
    *,
    form: str = "trilinear",
    method: str = "exact",
    degree: int = 4,
    scale: float | None = None,
    causal: bool = False,
    window: Sequence[int] | None = None,
) -> AttentionState:
    r"""Softmax attention of queries to pairs of keys, one from each of two sets.

    Query i weighs the pair (j, k) by the exponential of ``scale`` times

    ================= =================================================================
    ``"trilinear"``   :math:`\sum_c q_{ic}\, k^1_{jc}\, k^2_{kc}`
    ``"strassen"``    :math:`q_i k^1_j + k^1_j k^2_k + k^2_k q_i`
    ``"rank1"``       :math:`q_i k^1_j + q_i k^2_k`
    ``"determinant"`` :math:`\sum_c \det(q_i, k^1_j, k^2_k)` over chunks of three features,
                      which stay the same when all three are rotated
    ================= =================================================================

    and gathers the means of the products :math:`v^1_j \circ v^2_k`. The trilinear and the rank-1
    form take any number of sets, of which they weigh combinations: one set is ordinary attention.

    The result merges with what the same queries have gathered of other pairs, as that of
    :func:`~lcm_graph.attention.attend` does: of keys of the first set that come in parts, for one.

    Args:
        q: floating point ``[..., heads, N, D]``, or ``[N, D]``.
        k: of each set: ``[..., heads, M, D]``, M its own; fewer heads, a divisor of the queries',
            are shared by groups of neighbouring heads of queries.
        v: of each set: ``[..., heads, M, C]``.
        form: of the logits, see above.
        method: ``"exact"``, or ``"polynomial"`` for small logits of the trilinear and the
            determinant form: see :class:`PolynomialAttention` for what it costs, which hardly
            depends on the number of pairs, and :func:`polynomial_error` for the error: of degree 4
            a hundredth where scaled logits stay within 1, and no use where they exceed 3.
        degree: of the polynomial, even.
        scale: of the logits (default: ``D ** -0.5``).
        causal: let the last query see all keys of all sets, the one before it all but the last of
            each, and so on.
        window: of each set, how many keys a query sees: the last of those that it sees if causal,
            which this implies. For the exact method.

    Returns:
        ``out [..., heads, N, C]`` and ``lse [..., heads, N]``, natural logarithms, float32 for
        narrower inputs; 0 and -inf for a query that sees no pair.

    Exact, for n queries and keys of each set: the trilinear form takes O(n³ (D + C)) time, or
    O(n w₁ w₂ (D + C)) in windows, the Strassen form C products of n × n matrices, the rank-1 form
    O(n² (D + C)). Memory beyond inputs and outputs is for some queries at a time, in the backward
    pass too, but for a few n × n matrices of the Strassen form.

    Raises:
        ValueError: shapes, dtypes or devices do not go together, an argument is out of range, or
            the weights of the polynomial method are not positive.

    Source: Clift et al., "Logic and the 2-Simplicial Transformer" (2020); Roy et al., "Fast and
    Simplex: 2-Simplicial Attention in Triton" (2025), sections 4 and 5 (determinants);
    Kozachinskiy et al., "Strassen Attention, Split VC Dimension and Compositionality in
    Transformers" (2025); Alman and Song, "How to Capture Higher-order Correlations? Generalizing
    Matrix Softmax Attention to Kronecker Computation" (2024), who scale by ``1 / D``.
    """
    inputs = check_inputs(q, k, v, scale, window, causal)
    if form not in FORMS:
        raise ValueError(f"'form' must be one of {', '.join(FORMS)} (got {form!r})")
    if method not in METHODS:
        raise ValueError(f"'method' must be one of {', '.join(METHODS)} (got {method!r})")
    if form in ("strassen", "determinant") and len(inputs.keys) != 2:
        raise ValueError(
            f"'k' must have two sets for form {form!r} (got {len(inputs.keys)}); "
            "'trilinear' and 'rank1' take any number"
        )
    if method == "polynomial":
        if form in ("strassen", "rank1"):
            raise ValueError(
                f"'method' must be 'exact' for form {form!r}, which it computes by matrix products "
                "(got 'polynomial')"
            )
        if window is not None:
            raise ValueError(
                "'window' goes with method 'exact', whose cost it bounds (got 'polynomial')"
            )
        check_degree(degree)
    if form == "determinant":
        inputs, form = as_trilinear(inputs), "trilinear"
    with torch.autocast(q.device.type, enabled=False):  # it would narrow logits and sums again
        state = _answer(inputs, form, method, degree)
    return with_lead_of(q, state)


def _answer(inputs: Inputs, form: str, method: str, degree: int) -> AttentionState:
    if method == "polynomial":
        return polynomial_attention(inputs, degree)
    if form == "rank1":
        return factored_attention(inputs)
    return strassen_attention(inputs) if form == "strassen" else nested_attention(inputs, form)
