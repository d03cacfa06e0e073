"""How much a recurrent network minds the order of two neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lcm_graph.monoids import State
from lcm_graph.monoids.state import map_state


def swap_loss(
    network: nn.RNNBase,
    x: Tensor,
    states: Sequence[State],
    batch_sizes: Sequence[int],
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""The mean of :math:`\|f(f(s, x_1), x_2) - f(f(s, x_2), x_1)\|^2` over the sets.

    ``s`` is the state after a random prefix of the set, ``x_1`` and ``x_2`` are the two elements
    that follow it (Cohen-Karlik, Ben-David & Globerson, "Regularizing Towards Permutation
    Invariance in Recurrent Models", NeurIPS 2020; as in Ong & Veličković 2022, Sec. 2.3).

    Args:
        network: the recurrent network ``f``.
        x: the elements ``[n, F]`` in the layout of a packed sequence.
        states: the network's states after each step, ``(hidden,)`` or ``(hidden, cell)`` of
            ``[layers, sets that reach the step, channels]``.
        batch_sizes: sets that reach each step, as in a packed sequence.
        generator: source of randomness, on ``x``'s device; the global one if ``None``.

    Returns:
        A scalar, summed over a state's numbers and averaged over the sets of two and more elements;
        0 where there is none.
    """
    pairs = batch_sizes[1] if len(batch_sizes) > 1 else 0  # sets with two elements
    if pairs == 0:
        return x.new_zeros(())
    device = x.device
    counts = torch.tensor(batch_sizes, device=device)
    starts = counts.cumsum(0) - counts
    rows = torch.arange(pairs, device=device)
    sizes = torch.searchsorted(-counts, -rows)  # of each set: the steps that more sets reach
    drawn = torch.rand(pairs, generator=generator, device=device)
    prefix = (drawn * (sizes - 1)).long()  # elements read before, 0 to size - 2
    # All states one after another, before the first step a row of zeros for each set.
    first = map_state(lambda t: t.new_zeros(t.size(0), pairs, t.size(2)), states[0])
    history = map_state(lambda *t: torch.cat(t, 1), first, *states)
    before = torch.where(prefix == 0, rows, pairs + starts[(prefix - 1).clamp_min(0)] + rows)
    s = map_state(lambda t: t.index_select(1, before), history)
    one, two = x[starts[prefix] + rows], x[starts[prefix + 1] + rows]
    ends = [_read(network, s, order) for order in ((one, two), (two, one))]
    squares = [(a - b).float().square().sum((0, 2)) for a, b in zip(ends[0], ends[1], strict=True)]
    return sum(squares[1:], squares[0]).mean()


def _read(network: nn.RNNBase, state: State, elements: tuple[Tensor, Tensor]) -> State:
    for x in elements:
        previous = state if isinstance(network, nn.LSTM) else state[0]
        after = network(x.unsqueeze(0), previous)[1]
        state = after if isinstance(after, tuple) else (after,)
    return state
