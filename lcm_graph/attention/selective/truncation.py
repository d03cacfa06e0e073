"""What attention loses by leaving keys out: exactly."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lcm_graph.attention.dense import attend
from lcm_graph.attention.selective.checks import check_grouped, check_marks


class Truncation(NamedTuple):
    """What is lost by attending to some of the keys."""

    mass: Tensor  # [B, H, N]: the share τ of attention that the others would have got
    error: Tensor  # [B, H, N]: the distance from the answer of all keys
    predicted: (
        Tensor  # [B, H, N]: τ times the distance of the two parts' answers, which is the same
    )


def truncation(
    q: Tensor, k: Tensor, v: Tensor, kept: Tensor, *, scale: float | None = None
) -> Truncation:
    r"""The error of attention to the keys kept, by an identity.

    For the discarded share :math:`\tau` and the answers :math:`\mu` of both parts,
    :math:`\|o - o_{kept}\| = \tau \|\mu_{rest} - \mu_{kept}\|`, for every way of choosing.

    Args:
        q: ``[B, H, N, D]``.
        k: ``[B, heads, M, D]``.
        v: ``[B, heads, M, C]``.
        kept: bool ``[B, heads, M]``.
        scale: of the logits.

    Raises:
        ValueError: a shape or dtype is another one.

    Source: arXiv 2512.07647.
    """
    check_grouped(q, k)
    check_marks("kept", kept, k.shape[:3])
    times = q.size(1) // k.size(1)
    mask = kept.repeat_interleave(times, 1).unsqueeze(2)
    head = attend(q, k, v, mask=mask, scale=scale)
    rest = attend(q, k, v, mask=~mask, scale=scale)
    whole = attend(q, k, v, scale=scale)
    mass = (rest.lse - whole.lse).exp()
    mass = torch.where(whole.lse == -torch.inf, 0, mass)
    return Truncation(
        mass, (whole.out - head.out).norm(dim=-1), mass * (rest.out - head.out).norm(dim=-1)
    )
