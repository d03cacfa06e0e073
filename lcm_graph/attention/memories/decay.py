"""Tokens of a stream of which the most surprising stay, the older the less."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lcm_graph.attention.states import MemoryState, TopMemory
from lcm_graph.monoids.base import check_at_least, check_positive


def static_scores(scores: Tensor, turn: int | Tensor, decay: float) -> Tensor:
    r"""What ranks as scores do that are multiplied by ``decay`` after each turn, and never changes.

    At turn T a score is :math:`s \eta^{T-t}`, whose logarithm differs from
    :math:`\log s - t \log \eta` by the same for all tokens. So a memory of what scores highest is
    a commutative monoid (:class:`TopMemory`), whatever the order and grouping of turns.

    Args:
        scores: not negative, ``[n]``; 0 counts as the smallest number above it.
        turn: t, an int, or int64 ``[n]``.
        decay: :math:`\eta`, above 0 and at most 1.

    Returns:
        float64 ``[n]``.

    Raises:
        ValueError: a score is negative or NaN, or ``decay`` is not above 0 and at most 1.
    """
    _check_decay(decay)
    wide = scores.detach().double()
    if not bool((wide >= 0).all()):
        worst = wide[~(wide >= 0)][0]
        raise ValueError(f"'scores' must not be negative or NaN (got {float(worst):g})")
    return wide.clamp(min=torch.finfo(torch.float64).tiny).log() - turn * math.log(decay)


def _check_decay(decay: float) -> float:
    if not 0 < decay <= 1:
        raise ValueError(
            f"'decay' must be above 0 and at most 1 (got {decay}); take 1 for none, and a window "
            "for the latest tokens alone"
        )
    return decay


class StreamMemory:
    r"""The first tokens of a stream, its latest, and of those between what scores highest.

    Gradients reach the latest turn's tokens; what was kept before is a constant.

    Each call of :meth:`append` is a turn. With ``decay`` a score counts less with every turn that
    follows: SirLLM's memory, if scores are tokens' surprisal.

    Args:
        channels: features of a token, e.g. those of a key and of a value.
        budget: tokens kept for their scores.
        n_sink: first tokens, which stay.
        window: latest tokens, which are candidates for the others when they leave the window.
        decay: see :func:`static_scores`.

    Source: Yao et al., "SirLLM: Streaming Infinite Retentive LLM" (2024), section 3. There the
    room for scores shrinks by the length of what comes in, so that what is kept depends on how the
    stream is cut; here it does not.
    """

    def __init__(
        self,
        channels: int,
        budget: int,
        *,
        n_sink: int = 4,
        window: int = 0,
        decay: float = 1.0,
    ) -> None:
        self.channels = check_positive("channels", channels)
        self.n_sink = check_at_least("n_sink", n_sink)
        self.window = check_at_least("window", window)
        self.decay = _check_decay(decay)
        self.seen = 0  # tokens
        self.turn = 0  # number of turns
        # The monoid remembers where tokens stood, which float64 tells exactly
        self._places = TopMemory(1, check_positive("budget", budget))
        self._kept: MemoryState | None = None
        self._tokens = torch.empty(0, channels)
        self._positions = torch.empty(0, dtype=torch.long)
        self._scores = torch.empty(0, dtype=torch.float64)

    @property
    def tokens(self) -> Tensor:
        """What is kept, ``[kept, channels]``, in the stream's order."""
        return self._tokens

    @property
    def positions(self) -> Tensor:
        """Where in the stream that stood, int64 ``[kept]``, ascending."""
        return self._positions

    def append(self, tokens: Tensor, scores: Tensor) -> None:
        """Take a turn in.

        Args:
            tokens: ``[n, channels]``.
            scores: not negative, ``[n]``: how much each is worth keeping.

        Raises:
            ValueError: a shape or dtype is another one, or a score is negative or NaN.
        """
        if self.turn and (tokens.dtype, tokens.device) != (self._tokens.dtype, self._tokens.device):
            raise ValueError(
                f"'tokens' must be {self._tokens.dtype} on {self._tokens.device} as before "
                f"(got {tokens.dtype} on {tokens.device})"
            )
        if tokens.dim() != 2 or tokens.size(1) != self.channels or scores.shape != tokens.shape[:1]:
            raise ValueError(
                f"'tokens' must be [n, {self.channels}] and 'scores' [n] "
                f"(got {list(tokens.shape)} and {list(scores.shape)})"
            )
        static = static_scores(scores, self.turn, self.decay)
        count = tokens.size(0)
        positions = torch.arange(self.seen, self.seen + count, device=tokens.device)
        if self.turn == 0:
            self._tokens, self._positions = self._tokens.to(tokens), self._positions.to(positions)
            self._scores = self._scores.to(static)
            self._kept = self._places.identity(1, dtype=torch.float64, device=tokens.device)
        assert self._kept is not None
        tokens = torch.cat([self._tokens.detach(), tokens])
        positions = torch.cat([self._positions, positions])
        static = torch.cat([self._scores, static])
        self.seen, self.turn = self.seen + count, self.turn + 1

        latest = positions >= max(self.seen - self.window, self.n_sink)
        first = positions < self.n_sink
        held = self._kept.tokens[0, self._kept.scores[0] > -torch.inf, 0].long()
        new = ~latest & ~first & ~torch.isin(positions, held)
        self._kept = self._places.combine(self._kept, self._best(positions[new], static[new]))
        held = self._kept.tokens[0, self._kept.scores[0] > -torch.inf, 0].long()
        stays = latest | first | torch.isin(positions, held)
        self._tokens, self._positions = tokens[stays], positions[stays]
        self._scores = static[stays]

    def _best(self, positions: Tensor, scores: Tensor) -> MemoryState:
        """The state of tokens, made at once: lifted one by one each would have room for all."""
        order = scores.argsort(descending=True, stable=True)[: self._places.budget]
        blank = self._places.identity(1, dtype=torch.float64, device=positions.device)
        blank.scores[0, : len(order)] = scores[order]
        blank.tokens[0, : len(order), 0] = positions[order].double()
        return blank

    def __len__(self) -> int:
        return self._tokens.size(0)

    def __repr__(self) -> str:
        return (
            f"StreamMemory({self.channels}, {self._places.budget}, n_sink={self.n_sink}, "
            f"window={self.window}, decay={self.decay})"
        )
