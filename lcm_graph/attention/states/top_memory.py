"""A memory of bounded size: the keys and values of highest score."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lcm_graph.monoids import Monoid
from lcm_graph.monoids.base import check_positive
from lcm_graph.monoids.mean import count_dtype
from lcm_graph.monoids.segment import plus_log_weight, times_weight


class MemoryState(NamedTuple):
    """What is remembered, highest score first; a slot that holds nothing has the score -inf."""

    scores: Tensor  # [n, budget], float32 or wider
    tokens: Tensor  # [n, budget, channels]: keys, values, and whatever else goes along


class TopMemory(Monoid):
    r"""Of all tokens the ``budget`` with the highest scores, whole.

    A monoid as long as a token's score is its own: what other tokens score, or a query that is not
    known yet, must not change it. A score that decays by a factor :math:`\eta` each turn does not
    disturb that: :math:`s \eta^{T-t}` ranks as :math:`\log s - t \log \eta` does, which stays as it
    is. The laws hold but for ties, of which the left comes first.

    Args:
        channels: features of a token, e.g. those of a key and of a value.
        budget: tokens to keep.

    An element is a score and a token, ``[n, 1 + channels]``, or see :meth:`lift`. ``lower`` gives
    the tokens flattened, ``[n, budget * channels]``, 0 where there is none.
    """

    def __init__(self, channels: int, budget: int) -> None:
        self.token_channels = check_positive("channels", channels)
        self.budget = check_positive("budget", budget)
        super().__init__(1 + channels)

    @property
    def out_channels(self) -> int:
        return self.budget * self.token_channels

    def lift(self, x: Tensor, scores: Tensor | None = None) -> MemoryState:
        """Turn elements into states.

        Args:
            x: floating point ``[n, 1 + channels]``; or tokens ``[n, channels]``, if ``scores`` are
                given.
            scores: ``[n]``; a NaN comes first, so that it is seen.

        Raises:
            ValueError: a shape is another one, or ``x`` is not floating point.
        """
        if scores is None:
            self._check_elements(x)
            scores, x = x[:, 0], x[:, 1:]
        self._check_floating(x)
        n = x.size(0) if x.dim() else 0
        if x.shape != (n, self.token_channels) or scores.shape != (n,):
            raise ValueError(
                f"{self} takes tokens {[n, self.token_channels]} and scores {[n]} "
                f"(got {list(x.shape)} and {list(scores.shape)})"
            )
        state = self.identity(n, dtype=x.dtype, device=x.device)
        kept = state.scores.to(count_dtype(scores.dtype)).clone()
        kept[:, 0] = scores
        tokens = state.tokens.clone()
        tokens[:, 0] = torch.where(kept[:, :1] == -torch.inf, 0, x)
        return MemoryState(kept, tokens)

    def combine(self, left: MemoryState, right: MemoryState) -> MemoryState:
        scores = torch.cat([left.scores, right.scores], dim=1)
        tokens = torch.cat([left.tokens, right.tokens], dim=1)
        order = _by_score(scores, dim=1)[:, : self.budget]
        return MemoryState(
            scores.gather(1, order),
            tokens.gather(1, order.unsqueeze(-1).expand(-1, -1, tokens.size(-1))),
        )

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> MemoryState:
        tokens = torch.zeros(n, self.budget, self.token_channels, dtype=dtype, device=device)
        shape = (n, self.budget)
        scores = tokens.new_full(shape, -torch.inf, dtype=count_dtype(tokens.dtype))
        return MemoryState(scores, tokens)

    def lower(self, state: MemoryState) -> Tensor:
        return state.tokens.flatten(1)

    def segment(self, state: MemoryState, index: Tensor, dim_size: int) -> MemoryState:
        scores = state.scores.flatten()
        owner = index.repeat_interleave(self.budget)
        rows = _by_score(scores, dim=0)
        rows = rows[owner[rows].argsort(stable=True)]
        sets = owner[rows]
        start = torch.searchsorted(sets, torch.arange(dim_size, device=sets.device))
        rank = torch.arange(len(rows), device=sets.device) - start[sets]
        kept = (rank < self.budget).nonzero().flatten()
        rows, place = rows[kept], sets[kept] * self.budget + rank[kept]
        blank = self.identity(dim_size, dtype=state.tokens.dtype, device=scores.device)
        found = blank.scores.to(scores.dtype).flatten().index_copy(0, place, scores[rows])
        tokens = blank.tokens.flatten(0, 1).index_copy(0, place, state.tokens.flatten(0, 1)[rows])
        return MemoryState(
            found.view(dim_size, self.budget),
            tokens.view(dim_size, self.budget, self.token_channels),
        )

    def weigh(self, state: MemoryState, weight: Tensor) -> MemoryState:
        # A token half there scores less, and is half as large.
        return MemoryState(
            plus_log_weight(state.scores, weight), times_weight(state.tokens, weight)
        )

    def __repr__(self) -> str:
        return f"TopMemory({self.token_channels}, budget={self.budget})"


def _by_score(scores: Tensor, dim: int) -> Tensor:
    """Places from the highest score to the lowest, NaN first, ties in the order given."""
    keys = torch.where(scores.isnan(), torch.inf, scores.detach())
    return keys.argsort(dim=dim, descending=True, stable=True)
