"""Where an accumulator keeps the subtrees of one size."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_graph.monoids import State
from lcm_graph.monoids.state import leaves, map_state, take


class Slots:
    """A row for each set that has needed one, in tensors that double when they are full.

    Args:
        device: of the states.
    """

    def __init__(self, device: torch.device) -> None:
        self.row = torch.empty(0, dtype=torch.int64, device=device)  # of each set; -1: none yet
        self.used = 0
        self.states: State = None

    def get(self, sets: Tensor) -> State:
        """The states of ``sets`` (int64), each of which has one."""
        return take(self.states, self.row[sets])

    def put(self, sets: Tensor, states: State, num_sets: int) -> None:
        """Write the states of ``sets`` (int64, distinct, below ``num_sets``)."""
        if num_sets > self.row.numel():
            more = self.row.new_full((max(num_sets, 2 * self.row.numel()) - self.row.numel(),), -1)
            self.row = torch.cat([self.row, more])
        fresh = sets[self.row[sets] < 0]
        self.row[fresh] = torch.arange(self.used, self.used + fresh.numel(), device=sets.device)
        self.used += fresh.numel()
        self._grow(states)
        rows = self.row[sets]
        if any(t.requires_grad for t in (*leaves(self.states), *leaves(states))):
            self.states = map_state(lambda s, v: s.index_copy(0, rows, v), self.states, states)
        else:
            map_state(lambda s, v: s.index_copy_(0, rows, v), self.states, states)

    def copy(self) -> Slots:
        """Others that hold the same."""
        other = Slots(self.row.device)
        other.row, other.used = self.row.clone(), self.used
        other.states = None if self.states is None else map_state(Tensor.clone, self.states)
        return other

    def detach(self) -> None:
        """Forget how the states were computed."""
        if self.states is not None:
            self.states = map_state(Tensor.detach, self.states)

    def _grow(self, like: State) -> None:
        if self.states is None:
            self.states = map_state(lambda v: v.new_zeros(self.used, *v.shape[1:]), like)
            return
        capacity = leaves(self.states)[0].size(0)
        if capacity >= self.used:
            return
        more = max(self.used, 2 * capacity) - capacity
        self.states = map_state(
            lambda s: torch.cat([s, s.new_zeros(more, *s.shape[1:])]), self.states
        )
