"""Between minimum and maximum, by a learned gate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lcm_graph.monoids.learned import LearnedMonoid


class GatedLattice(LearnedMonoid):
    r"""``z · max(a, b) + (1 - z) · min(a, b)``, with a gate
    :math:`z = \sigma(W_1 (a + b) + W_2 |a - b| + w)` for each channel.

    A gate of 1 is the maximum and one of 0 the minimum, both associative; the mean lies half-way.
    Commutative bit for bit, not associative. Every channel stays between the least and the greatest
    of the elements, up to rounding, however large the set; and ``combine(a, a)`` is ``a`` bit for
    bit, so an instance says that it is ``idempotent``.

    With ``correction``, which is not idempotent, the result can leave that range by
    :math:`u \tanh(V_1 (a + b) + V_2 |a - b| + v)`: no more than the learned :math:`|u|`, which is
    0 at first.

    A pair costs ``2 channels²`` multiply-adds, 4 with ``correction``.

    Args:
        channels: size of an element, of a state and of an output.
        correction: whether to add the bounded term.

    Raises:
        ValueError: ``channels`` is not a positive integer.
    """

    def __init__(self, channels: int, *, correction: bool = False) -> None:
        super().__init__(channels)
        self.gate = nn.Linear(2 * channels, channels)
        self.correction: nn.Linear | None = None
        if correction:
            self.correction = nn.Linear(2 * channels, channels)
            self.scale = nn.Parameter(torch.empty(channels))
        self.idempotent = not correction  # type: ignore[misc]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self.gate.reset_parameters()
        if self.correction is not None:
            self.correction.reset_parameters()
            nn.init.zeros_(self.scale)

    def __repr__(self) -> str:
        extra = "" if self.correction is None else ", correction=True"
        return f"GatedLattice({self.channels}{extra})"

    def operator(self, a: Tensor, b: Tensor) -> Tensor:
        low, high = torch.minimum(a, b), torch.maximum(a, b)
        pair = torch.cat([a + b, high - low], dim=-1)
        # Between equals lerp is exact, which z · high + (1 - z) · low is not.
        out = torch.lerp(low, high, self.gate(pair).sigmoid().to(low.dtype))
        return out if self.correction is None else out + self.scale * self.correction(pair).tanh()
