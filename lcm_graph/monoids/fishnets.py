"""Scores weighed by the information that elements carry."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from lcm_graph.monoids.base import Monoid, check_positive
from lcm_graph.monoids.mean import count_dtype
from lcm_graph.monoids.segment import segment_sum, times_weight


class FishnetsState(NamedTuple):
    """Sum of the scores, and of the lower triangles of the Fisher matrices, row by row."""

    score: Tensor  # [n, dim], float32 or wider
    fisher: Tensor  # [n, dim (dim + 1) / 2]


class Fishnets(Monoid):
    r""":math:`(\sum F + I)^{-1} \sum t` of learned scores t and Fisher matrices F
    (Makinen, Alsing & Wandelt 2023, "Fishnets: information-optimal, scalable aggregation for sets
    and graphs").

    Each element gives a score, ``dim`` numbers, and a matrix :math:`F = L L^T`, L a lower triangle
    with a positive diagonal: how much it says about each of the ``dim`` quantities that the set is
    asked for. Both are linear in the element (L's diagonal then goes through softplus); put a
    network before it where that is too little. The identity matrix is the prior. A linear map from
    the ``dim`` quantities gives the output; that of an empty set is its bias.

    States are float32 or wider, and the equations are solved in their precision, whatever the
    elements', by Cholesky's factorisation. The prior is larger than I by the rounding error of the
    trace of ΣF, so that rounding leaves the matrix definite. A set that holds a NaN or an infinity,
    or of which more was taken out than there was, answers NaN and leaves the others alone.

    Args:
        channels: features of an element and of an output.
        dim: size of the score (default: 8, or ``channels`` if that is less). An element's state
            has ``dim (dim + 3) / 2`` numbers.

    Raises:
        ValueError: an argument is not a positive integer.
    """

    invertible = True
    additive = True

    _triangle: Tensor  # where in a matrix, flattened, the entries of its lower triangle are
    _spread: Tensor  # where in the triangle the entries of the symmetric matrix are

    def __init__(self, channels: int, dim: int | None = None) -> None:
        super().__init__(check_positive("channels", channels))
        self.dim = dim = min(8, channels) if dim is None else check_positive("dim", dim)
        self.score = nn.Linear(channels, dim)
        self.factor = nn.Linear(channels, dim * (dim + 1) // 2)
        self.out = nn.Linear(dim, channels)
        row, column = torch.tril_indices(dim, dim)
        spread = torch.empty(dim, dim, dtype=torch.long)
        spread[row, column] = spread[column, row] = torch.arange(len(row))
        self.register_buffer("_triangle", row * dim + column, persistent=False)
        self.register_buffer("_spread", spread.flatten(), persistent=False)

    def reset_parameters(self) -> None:
        for layer in (self.score, self.factor, self.out):
            layer.reset_parameters()

    def lift(self, x: Tensor) -> FishnetsState:
        self._check_elements(x)
        score, factor = self.score(x), self.factor(x)
        dtype = count_dtype(score.dtype)
        with torch.autocast(x.device.type, enabled=False):  # rounding F could make it indefinite
            factor = self._symmetric(factor.to(dtype))
            positive = softplus(factor.diagonal(dim1=1, dim2=2))
            factor = factor.tril(-1) + torch.diag_embed(positive)
            fisher = (factor @ factor.mT).flatten(1).index_select(1, self._triangle)
        return FishnetsState(score.to(dtype), fisher)

    def combine(self, left: FishnetsState, right: FishnetsState) -> FishnetsState:
        return FishnetsState(left.score + right.score, left.fisher + right.fisher)

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> FishnetsState:
        dtype = count_dtype(self.out.weight.dtype if dtype is None else dtype)
        device = self.out.weight.device if device is None else device
        score = torch.zeros(n, self.dim, dtype=dtype, device=device)
        return FishnetsState(score, score.new_zeros(n, self.dim * (self.dim + 1) // 2))

    def lower(self, state: FishnetsState) -> Tensor:
        fisher = self._symmetric(state.fisher)
        trace = fisher.detach().diagonal(dim1=1, dim2=2).sum(1, keepdim=True)
        prior = 1 + trace.clamp_min(0) * torch.finfo(trace.dtype).eps
        fisher = fisher + torch.diag_embed(prior.expand(-1, self.dim))
        factor, info = torch.linalg.cholesky_ex(fisher)
        answer = torch.cholesky_solve(state.score.unsqueeze(2), factor).squeeze(2)
        answer = torch.where(info.unsqueeze(1) == 0, answer, torch.nan)
        out: Tensor = self.out(answer.to(self.out.weight.dtype))
        return out

    def segment(self, state: FishnetsState, index: Tensor, dim_size: int) -> FishnetsState:
        return FishnetsState(
            segment_sum(state.score, index, dim_size), segment_sum(state.fisher, index, dim_size)
        )

    def inverse(self, state: FishnetsState) -> FishnetsState:
        return FishnetsState(-state.score, -state.fisher)

    def weigh(self, state: FishnetsState, weight: Tensor) -> FishnetsState:
        return FishnetsState(times_weight(state.score, weight), times_weight(state.fisher, weight))

    def _symmetric(self, triangle: Tensor) -> Tensor:
        """The symmetric matrices ``[n, dim, dim]`` of which these are the lower triangles."""
        spread = triangle.index_select(1, self._spread)
        return spread.view(-1, self.dim, self.dim)

    def __repr__(self) -> str:
        return f"Fishnets({self.channels}, dim={self.dim})"
