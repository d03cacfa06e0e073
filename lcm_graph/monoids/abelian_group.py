"""A learned abelian group: addition seen through an invertible network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from lcm_graph.monoids.base import Monoid, check_positive
from lcm_graph.monoids.mean import count_dtype
from lcm_graph.monoids.segment import segment_sum, times_weight


class AbelianGroup(Monoid):
    r""":math:`x \circ y = \varphi^{-1}(\varphi(x) + \varphi(y))` with a learned, invertible φ
    (Abe, Maehara & Sato 2021, "Abelian neural networks").

    The state is φ(x) ``[n, channels]``, so a fold is a sum and an element is taken out by
    subtracting it. φ is a stack of affine couplings in turns of both halves of the features (Dinh,
    Sohl-Dickstein & Bengio 2017, "Density estimation using Real NVP"), around a learned ``origin``
    (0 at first): ``φ(origin)`` is 0 to the last bit, so ``origin`` is the group's identity and what
    an empty set answers. Every φ can be written so. It needs no linear layer at its end, which
    would leave the group the same.

    Each coupling changes the scale of a feature by a factor between 1/e and e and shifts it by a
    bounded amount, so φ and its inverse are close to linear far from the origin. With one channel
    there is nothing to couple: the group is addition around ``origin`` (a
    :class:`GeneralizedMean` learns more of one channel).

    States are float32 or wider, and φ is computed in their precision, whatever the elements'; an
    output has the parameters' dtype.

    Args:
        channels: features of an element and of an output.
        layers: couplings; from three on every feature has an influence on every other.
        hidden: size of the hidden layer of a coupling (default: ``2 * channels``).

    Raises:
        ValueError: an argument is not a positive integer.
    """

    invertible = True
    additive = True

    def __init__(self, channels: int, layers: int = 4, hidden: int | None = None) -> None:
        super().__init__(check_positive("channels", channels))
        self.layers = check_positive("layers", layers)
        self.hidden = 2 * channels if hidden is None else check_positive("hidden", hidden)
        self.origin = nn.Parameter(torch.empty(channels))
        sizes = [channels // 2, channels - channels // 2]
        self.couplings = nn.ModuleList(
            Coupling(sizes[i % 2], sizes[1 - i % 2], self.hidden)
            for i in range(self.layers if channels > 1 else 0)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.origin)
        for coupling in self.couplings:
            coupling.reset_parameters()  # type: ignore[operator]

    def lift(self, x: Tensor) -> Tensor:
        self._check_elements(x)
        x = x.to(count_dtype(x.dtype)) - self.origin
        given, changed = x.tensor_split([x.size(1) // 2], dim=1)
        for coupling in self.couplings:
            given, changed = coupling(given, changed), given
        return torch.cat([given, changed], dim=1)

    def combine(self, left: Tensor, right: Tensor) -> Tensor:
        return left + right

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> Tensor:
        dtype = count_dtype(self.origin.dtype if dtype is None else dtype)
        device = self.origin.device if device is None else device
        return torch.zeros(self._identity_shape(n), dtype=dtype, device=device)

    def lower(self, state: Tensor) -> Tensor:
        channels, swapped = state.size(1), len(self.couplings) % 2
        first = channels - channels // 2 if swapped else channels // 2
        given, changed = state.tensor_split([first], dim=1)
        for coupling in reversed(self.couplings):
            given, changed = changed, coupling.inverse(changed, given)  # type: ignore[operator]
        return (torch.cat([given, changed], dim=1) + self.origin).to(self.origin.dtype)

    def segment(self, state: Tensor, index: Tensor, dim_size: int) -> Tensor:
        return segment_sum(state, index, dim_size)

    def inverse(self, state: Tensor) -> Tensor:
        return -state

    def weigh(self, state: Tensor, weight: Tensor) -> Tensor:
        return times_weight(state, weight)

    def __repr__(self) -> str:
        return f"AbelianGroup({self.channels}, layers={self.layers}, hidden={self.hidden})"


class Coupling(nn.Module):
    """``y = x exp(s(given)) + t(given)`` with ``|s| < 1`` and t(0) = 0, so 0 stays 0.

    s and t share a hidden layer, ``tanh(A given) · sigmoid(B given + b)``.

    Args:
        given: features that s and t see, which stay as they are.
        changed: features of x and y.
        hidden: size of the hidden layer.
    """

    def __init__(self, given: int, changed: int, hidden: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.empty(hidden, given))
        self.gate = nn.Parameter(torch.empty(hidden, given))
        self.gate_bias = nn.Parameter(torch.empty(hidden))
        self.scale = nn.Parameter(torch.empty(changed, hidden))
        self.scale_bias = nn.Parameter(torch.empty(changed))
        self.shift = nn.Parameter(torch.empty(changed, hidden))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew, as :class:`torch.nn.Linear` draws its own."""
        hidden, given = self.value.shape
        for parameter in (self.value, self.gate, self.gate_bias):
            nn.init.uniform_(parameter, -(given**-0.5), given**-0.5)
        for parameter in (self.scale, self.scale_bias, self.shift):
            nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)

    def forward(self, given: Tensor, x: Tensor) -> Tensor:
        """``x [n, changed]`` scaled and shifted as ``given [n, given]`` says."""
        scale, shift = self._scale_and_shift(given)
        return x * scale.exp() + shift

    def inverse(self, given: Tensor, y: Tensor) -> Tensor:
        """The ``x`` that :meth:`forward` makes ``y`` of."""
        scale, shift = self._scale_and_shift(given)
        return (y - shift) * (-scale).exp()

    def _scale_and_shift(self, given: Tensor) -> tuple[Tensor, Tensor]:
        dtype = given.dtype
        with torch.autocast(given.device.type, enabled=False):  # both ways must agree
            value = linear(given, self.value.to(dtype)).tanh()
            gate = linear(given, self.gate.to(dtype), self.gate_bias.to(dtype)).sigmoid()
            hidden = value * gate
            scale = linear(hidden, self.scale.to(dtype), self.scale_bias.to(dtype)).tanh()
            return scale, linear(hidden, self.shift.to(dtype))
