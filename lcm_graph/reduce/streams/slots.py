"""Where an accumulator keeps the subtrees of one size."""

from __future__ import annotations

from collections.abc import Callable

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

    def prepare(
        self, sets: Tensor, states: State, num_sets: int, *, constant: bool
    ) -> Callable[[], None]:
        """Do all that can fail of writing states; calling the result writes them.

        Args:
            sets: int64, distinct, below ``num_sets``.
            states: of ``sets``; cast to the dtypes of those that are held.
            num_sets: sets that there are.
            constant: whether what is held forgets how it was computed.
        """
        with torch.inference_mode(False), torch.no_grad():  # inference tensors cannot be changed
            row = self.row
            if num_sets > row.numel():
                more = max(num_sets, 2 * row.numel()) - row.numel()
                row = torch.cat([row, row.new_full((more,), -1)])
            fresh = sets[row[sets] < 0]
            used = self.used + fresh.numel()
            numbers = torch.arange(self.used, used, device=sets.device)
            rows = row[sets]
            rows[rows < 0] = numbers
        held = self.states
        if held is not None and constant:
            held = map_state(Tensor.detach, held)
        held = _with_room(held, states, used)
        states = map_state(lambda s, v: v.to(s.dtype), held, states)
        with_graph = any(t.requires_grad for t in (*leaves(held), *leaves(states)))
        if with_graph:
            with torch.enable_grad():
                held = map_state(lambda s, v: s.index_copy(0, rows, v), held, states)

        def write() -> None:
            if not with_graph:
                map_state(lambda s, v: s.index_copy_(0, rows, v), held, states)
            row[fresh] = numbers
            self.row, self.used, self.states = row, used, held

        return write

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


def _with_room(held: State, like: State, used: int) -> State:
    """Tensors of at least ``used`` rows that begin with those of ``held``."""
    with torch.inference_mode(False), torch.no_grad():
        if held is None:
            return map_state(lambda v: v.new_zeros(used, *v.shape[1:]), like)
        capacity = leaves(held)[0].size(0)
        if capacity >= used:
            return held
        more = max(used, 2 * capacity) - capacity
        blank = map_state(lambda s: s.new_zeros(more, *s.shape[1:]), held)
    if not any(t.requires_grad for t in leaves(held)):
        with torch.inference_mode(False), torch.no_grad():
            return map_state(lambda s, b: torch.cat([s, b]), held, blank)
    with torch.enable_grad():
        return map_state(lambda s, b: torch.cat([s, b]), held, blank)
