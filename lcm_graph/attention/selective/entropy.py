"""How many directions vectors spread over: the entropy of a spectrum."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lcm_graph.attention.states import ClusterState


def matrix_entropy(
    x: Tensor, *, rank: int | None = None, normalize: bool = True, unit_rows: bool = True
) -> Tensor:
    r"""Entropy of the eigenvalues of the covariance of vectors, as a fraction of its largest.

    For eigenvalues :math:`\lambda_i` that sum to 1: :math:`-\sum_i \lambda_i \log \lambda_i /
    \log d`. With ``rank`` r, of the r largest alone.

    Args:
        x: floating point ``[..., n, d]``.
        rank: how many eigenvalues (default: all).
        normalize: let those that are looked at sum to 1. UNComp does not, whose value is no entropy
            then: it falls again as the rank grows.
        unit_rows: divide centred vectors by their length first, as UNComp does.

    Returns:
        Float32 or wider ``[...]``; 0 of vectors that are all alike.

    Raises:
        ValueError: ``rank`` is not from 1 to d, d is 1, or ``x`` is not finite.

    Source: Xiong et al., "UNComp: Uncertainty-Aware Long-Context Compressor" (2024), section 3.2.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    x = x - x.mean(-2, keepdim=True)
    if unit_rows:
        x = x / x.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
    return covariance_entropy(x.mT @ x / max(1, x.size(-2)), rank=rank, normalize=normalize)


def summary_entropy(
    state: ClusterState, *, rank: int | None = None, normalize: bool = True
) -> Tensor:
    """The same of a cluster's keys, from its sums alone: of keys in any number of parts.

    Args:
        state: of second order, ``[..., n]`` clusters.
        rank: see :func:`matrix_entropy`; rows are centred, not of length 1.
        normalize: see :func:`matrix_entropy`.

    Returns:
        ``[..., n]``.

    Raises:
        ValueError: the state is of first order; see also :func:`matrix_entropy`.
    """
    if state.key_products is None:
        raise ValueError("'state' must be of ClusterSummary(…, order=2)")
    size = state.size.clamp(min=1)
    mean = state.keys / size.unsqueeze(-1)
    covariance = state.key_products / size[..., None, None]
    covariance = covariance - mean.unsqueeze(-1) * mean.unsqueeze(-2)
    return covariance_entropy(covariance, rank=rank, normalize=normalize)


def covariance_entropy(
    covariance: Tensor, *, rank: int | None = None, normalize: bool = True
) -> Tensor:
    """See :func:`matrix_entropy`; of a covariance ``[..., d, d]``."""
    d = covariance.size(-1)
    if d < 2:
        raise ValueError(f"'x' must have two features at least, whose spread is told (got {d})")
    if rank is not None and not 1 <= rank <= d:
        raise ValueError(f"'rank' must be from 1 to the number of features, {d} (got {rank})")
    if not covariance.isfinite().all():
        raise ValueError("'x' must be finite (its covariance is not)")
    values = torch.linalg.eigvalsh(covariance).flip(-1).clamp(min=0)
    tiny = torch.finfo(values.dtype).tiny
    values = values / values.sum(-1, keepdim=True).clamp_min(tiny)
    values = values[..., :rank]
    if normalize:
        values = values / values.sum(-1, keepdim=True).clamp_min(tiny)
    return -torch.special.xlogy(values, values).sum(-1) / math.log(d)


def effective_rank(entropy: Tensor, features: int) -> Tensor:
    """The number of equal eigenvalues that would have this entropy: from 1 to ``features``.

    Source: Roy and Vetterli, "The effective rank" (2007).
    """
    return (entropy * math.log(features)).exp()
