"""The determinant form, as a trilinear one of twice the width."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_graph.attention.tensor.inputs import Inputs

# Of the 6 permutations of 3 features: what each of q, k1, k2 contributes, and the signs.
_PLACES = ((0, 1, 2, 0, 1, 2), (1, 2, 0, 2, 0, 1), (2, 0, 1, 1, 2, 0))
_SIGNS = (1.0, 1.0, 1.0, -1.0, -1.0, -1.0)


def as_trilinear(inputs: Inputs) -> Inputs:
    r"""Logits :math:`\sum_c \det(q_c, k^1_c, k^2_c)` over chunks c of three features.

    A determinant is a signed sum of six products of one feature each, hence trilinear in repeated
    features. It stays the same when a rotation turns all three vectors, so queries and keys may be
    rotated by what their places differ, which a plain trilinear form does not survive.

    Source: Roy et al., "Fast and Simplex: 2-Simplicial Attention in Triton" (2025), section 5.

    Raises:
        ValueError: the features are no multiple of 3.
    """
    if inputs.q.size(-1) % 3:
        raise ValueError(
            "'q' must have a multiple of 3 features for form 'determinant' "
            f"(got {inputs.q.size(-1)}); pad queries and keys with zeros"
        )
    q, *keys = (
        _repeated(tensor, places)
        for tensor, places in zip((inputs.q, *inputs.keys), _PLACES, strict=True)
    )
    signs = q.new_tensor(_SIGNS).repeat(q.size(-1) // 6)
    return inputs._replace(q=q * signs, keys=tuple(keys))


def _repeated(tensor: Tensor, places: tuple[int, ...]) -> Tensor:
    """Six of each three features: ``[*, 3 c] -> [*, 6 c]``."""
    rows = torch.tensor(places, device=tensor.device)
    return tensor.unflatten(-1, (-1, 3)).index_select(-1, rows).flatten(-2)
