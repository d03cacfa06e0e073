"""Which keys go together: labels, as PyG's ``index`` names sets."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor


def contiguous_blocks(num_keys: int, size: int) -> Tensor:
    """Blocks of ``size`` neighbouring keys: int64 ``[num_keys]``.

    Raises:
        ValueError: ``size`` is below 1.
    """
    if size < 1:
        raise ValueError(f"'size' must be at least 1 (got {size})")
    return torch.arange(num_keys) // size


def kmeans(k: Tensor, clusters: int, *, normalize: bool = True, seed: int = 0) -> Tensor:
    """k-means of each batch and head: int64 labels ``[..., M]`` from 0 to ``clusters - 1``.

    Args:
        k: floating point ``[..., M, D]``.
        clusters: how many; at most M are used.
        normalize: cluster directions, as Squeezed Attention does.
        seed: of the initial centres.

    Raises:
        ImportError: scikit-learn is not installed (extra ``attention``).
        ValueError: ``clusters`` is below 1, or ``k`` has a number that is none.
    """
    if clusters < 1:
        raise ValueError(f"'clusters' must be at least 1 (got {clusters})")
    lead, (tokens, features) = k.shape[:-2], k.shape[-2:]
    flat = k.detach().float().cpu().reshape(lead.numel(), tokens, features)
    if not flat.isfinite().all():
        raise ValueError("'k' must be finite to be clustered (it has NaN or infinite entries)")
    if normalize:
        flat = flat / flat.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    labels = torch.empty(flat.shape[:2], dtype=torch.int64)
    for place, points in enumerate(flat):
        distinct = min(clusters, len(points.unique(dim=0))) if tokens else 0
        if not distinct:
            continue
        model = _sklearn().MiniBatchKMeans(
            distinct, random_state=seed + place, n_init=3, batch_size=max(1024, 3 * distinct)
        )
        labels[place] = torch.from_numpy(model.fit_predict(points.numpy())).long()
    return labels.view(*lead, tokens).to(k.device)


def hash_buckets(x: Tensor, directions: Tensor) -> Tensor:
    """The side of each hyperplane on which a vector lies, as a number: int64 ``[..., M]``.

    Numbers are ranks in Gray code, so that neighbours differ by one side.

    Args:
        x: floating point ``[..., M, D]``.
        directions: the hyperplanes' normals, ``[D, projections]``.

    Source: Han et al., "HyperAttention" (2024), section 2, after Charikar's sign hashes.
    """
    signs = (x @ directions.to(x.dtype) > 0).long()
    rank = torch.zeros(x.shape[:-1], dtype=torch.int64, device=x.device)
    bit = torch.zeros_like(rank)
    for sign in signs.unbind(-1):  # binary from Gray: each bit is the parity of those so far
        bit = bit ^ sign
        rank = 2 * rank + bit
    return rank


def _sklearn() -> Any:
    try:
        return importlib.import_module("sklearn.cluster")
    except ImportError as error:
        raise ImportError(
            "scikit-learn is needed for k-means; install it with: pip install "
            "'lcm-graph[attention]'"
        ) from error
