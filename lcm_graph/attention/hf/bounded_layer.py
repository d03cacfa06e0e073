"""A cache of bounded size that evicts what scores lowest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from lcm_graph.monoids.base import check_at_least, check_positive


class BoundedLayer(DynamicLayer):
    """Keeps the first tokens, the latest, and of the others those with the highest scores.

    Tokens score as :meth:`observe` is told, -inf before, so that without it the oldest go first
    (StreamingLLM). What was taken in last stays until more comes, so that it can be scored: so
    SirLLM's memory is this one, with the logarithm of tokens' surprisal, less that of a decay (see
    :func:`lcm_graph.attention.memories.static_scores`). Keys keep the positions that they were
    turned by.

    Sequences of a batch go along together, of one length and without padding, whose tokens would
    stay as the first.

    Args:
        budget: tokens to keep.
        n_sink: first tokens that are never evicted.
        window: latest tokens that are not evicted either.

    Raises:
        ValueError: ``budget`` is not above ``n_sink + window``.
    """

    is_croppable = False
    keys: Any  # Tensor, once there has been a token
    values: Any

    def __init__(self, budget: int, n_sink: int = 4, window: int = 0) -> None:
        super().__init__()
        check_at_least("n_sink", n_sink)
        check_at_least("window", window)
        if check_positive("budget", budget) <= n_sink + window:
            raise ValueError(
                f"'budget' must be above 'n_sink' and 'window' together, {n_sink} + {window} "
                f"(got {budget})"
            )
        self.budget, self.n_sink, self.window = budget, n_sink, window
        self.seen = 0
        self.scores = torch.empty(0, dtype=torch.float64)  # of the tokens kept
        self.places = torch.empty(0, dtype=torch.int64)  # in the sequence, of the tokens kept

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Let go of all but ``budget`` tokens, then take in ``[B, heads, n, D]``: all of them are
        looked at, until the next ones come."""
        self._evict()
        keys, values = super().update(key_states, value_states, *args, **kwargs)
        n = key_states.size(-2)
        self.scores = torch.cat([self.scores, self.scores.new_full((n,), -torch.inf)])
        self.places = torch.cat([self.places, torch.arange(self.seen, self.seen + n)])
        self.seen += n
        return keys, values

    def observe(self, scores: Tensor) -> None:
        """Score the latest tokens; those that are gone already are left out.

        Args:
            scores: float ``[n]``, of the n tokens that were seen last.

        Raises:
            ValueError: scores are not ``[n]``, are more than there were tokens, or NaN.
        """
        scores = scores.detach().double().cpu()
        if scores.dim() != 1 or len(scores) > self.seen or scores.isnan().any():
            raise ValueError(
                f"'scores' must be numbers [n], of at most the {self.seen} tokens seen "
                f"(got {list(scores.shape)}{', with NaN' if scores.isnan().any() else ''})"
            )
        first = self.seen - len(scores)
        mine = self.places >= first
        self.scores[mine] = scores[self.places[mine] - first]

    def get_seq_length(self) -> int:
        """Tokens seen, kept or not."""
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        kept = min(len(self.places), self.budget)
        return kept + query_length, self.seen - kept

    def get_max_length(self) -> int:
        return self.budget

    def reset(self) -> None:
        super().reset()
        self.seen = 0
        self.scores, self.places = self.scores[:0], self.places[:0]

    def _evict(self) -> None:
        if len(self.places) <= self.budget:
            return
        rank = self.scores.clone()
        rank[self.places < self.n_sink] = torch.inf
        rank[self.places >= self.seen - self.window] = torch.inf
        # Of equal scores, the latest stay.
        order = rank.flip(0).argsort(descending=True, stable=True)[: self.budget]
        rows = (len(rank) - 1 - order).sort().values
        self.scores, self.places = self.scores[rows], self.places[rows]
        rows = rows.to(self.keys.device)
        self.keys, self.values = self.keys[..., rows, :], self.values[..., rows, :]


def bounded_cache(layers: int, budget: int, n_sink: int = 4, window: int = 0) -> Cache:
    """A cache of such layers: ``model.generate(ids, cache=bounded_cache(…))``."""
    return Cache(layers=[BoundedLayer(budget, n_sink, window) for _ in range(layers)])
