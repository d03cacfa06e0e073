"""Replaying random operators (dropout in a combine) in a backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class RandomStates:
    """The random generators' states before each step of a fold.

    Args:
        device: where the fold runs; the CPU's generator is recorded too.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.states: list[tuple[Tensor, Tensor | None]] = []

    def record(self) -> None:
        """Note the states as they are now."""
        self.states.append(self._now())

    def trimmed(self) -> RandomStates:
        """Itself; emptied if no random number was drawn since the first step."""
        if self.states:
            first, last = self.states[0], self._now()
            same = torch.equal(first[0], last[0])
            if first[1] is not None and last[1] is not None:
                same = same and torch.equal(first[1], last[1])
            if same:
                self.states = []
        return self

    @contextmanager
    def replay(self) -> Iterator[None]:
        """Put the generators back afterwards as they were before."""
        if not self.states:
            yield
            return
        now = self._now()
        try:
            yield
        finally:
            self._set(now)

    def restore(self, step: int) -> None:
        """Set the generators as they were before ``step``."""
        if self.states:
            self._set(self.states[step])

    def _now(self) -> tuple[Tensor, Tensor | None]:
        if self.device.type == "cuda":
            return torch.get_rng_state(), torch.cuda.get_rng_state(self.device)
        return torch.get_rng_state(), None

    def _set(self, state: tuple[Tensor, Tensor | None]) -> None:
        torch.set_rng_state(state[0])
        if state[1] is not None:
            torch.cuda.set_rng_state(state[1], self.device)
