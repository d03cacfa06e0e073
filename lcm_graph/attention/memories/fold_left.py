"""A state of bounded size that takes in one chunk after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from typing import TypeVar

State = TypeVar("State")
Chunk = TypeVar("Chunk")


def fold_left(
    step: Callable[[State, Chunk], State],
    chunks: Iterable[Chunk],
    init: State,
    budget: float,
    *,
    size: Callable[[State], float] | None = None,
) -> State:
    """``step(… step(step(init, first), second) …, last)``, whose state never exceeds a budget.

    For steps that are no monoid: a language model that rewrites its notes, a recurrent cell, a
    retrieval whose scores depend on what it kept. What they answer depends on the order of chunks;
    states of a monoid need neither the order nor this function, see :class:`lcm_graph.Accumulator`.

    Args:
        step: the next state, of a state and a chunk.
        chunks: taken one at a time.
        init: the first state.
        budget: the largest ``size`` a state may have.
        size: of a state (default: ``len``).

    Raises:
        TypeError: a state has no length and there is no ``size``, such as one that ``step`` forgot
            to return; ``budget`` is no number.
        ValueError: a state is larger than ``budget``; the message tells after which chunk.

    Source: the harness of MEM1 (Zhou et al. 2025), where all but a state is erased after each
    turn, and of InftyThink (Yan et al. 2025), where a summary is carried to the next segment.
    """
    try:
        budget = float(budget)
    except (TypeError, ValueError) as error:
        raise TypeError(f"'budget' must be a number, or float('inf') (got {budget!r})") from error

    def check(state: State, where: str) -> State:
        if size is not None:
            found = size(state)
        elif isinstance(state, Sized):
            found = len(state)
        else:
            raise TypeError(
                f"the state {where} has no size; give 'size', and let 'step' return the next state "
                f"(got {type(state).__name__})"
            )
        if not found <= budget:
            raise ValueError(
                f"'budget' is {budget:g}, but the state {where} has size {found}; let 'step' "
                "forget, or take a larger budget"
            )
        return state

    state = check(init, "'init'")
    for number, chunk in enumerate(chunks):
        state = check(step(state, chunk), f"after chunk {number}")
    return state
