"""Mini-batch consistent slots, as a monoid."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lcm_graph.attention.states import LinearAttention, LinearState
from lcm_graph.monoids import Monoid
from lcm_graph.monoids.base import check_positive
from lcm_graph.monoids.mean import divide
from lcm_graph.reduce.groups import Groups

ACTIVATIONS = ("sigmoid", "slots")


class SlotEncoding(Monoid):
    r"""Each slot gathers a weighted mean of elements, whose weights no other element matters to.

    For keys k and values v of an element and slots s: :math:`a_s = \sigma(s \cdot k / \sqrt d)`,
    and the sums :math:`\sum a_s v` and :math:`\sum a_s` over the elements. ``lower`` divides and
    normalises them: ``[n, slots * channels]``, which may go through any set encoder.

    Args:
        channels: of elements and slots.
        slots: how many.
        activation: what makes weights of the logits: ``"sigmoid"``, or ``"slots"``, a softmax over
            the slots. (A softmax over the elements is :class:`SeedAttention`'s.)

    Raises:
        ValueError: a number is none, or there is no such activation.

    Source: Bruno et al., "Mini-Batch Consistent Slot Set Encoder" (2021), section 3; Willette et
    al., "Scalable Set Encoding with Universal Mini-Batch Consistency" (2023), equations 4 to 6. The
    slots are learned, not drawn.
    """

    def __init__(self, channels: int, slots: int = 8, activation: str = "sigmoid") -> None:
        super().__init__(check_positive("channels", channels))
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"'activation' must be one of {', '.join(ACTIVATIONS)} (got {activation!r})"
            )
        self.activation = activation
        self.slots = nn.Parameter(torch.empty(check_positive("slots", slots), channels))
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels)
        self.inner = LinearAttention(slots, channels)
        self.reset_parameters()

    @property
    def out_channels(self) -> int:
        return self.slots.numel()

    @property
    def folds_as(self) -> Monoid:
        return self.inner

    def lift(self, x: Tensor) -> LinearState:
        self._check_elements(x)
        return self.inner.lift(self._weights(x), self.value(x))

    def gather(self, x: Tensor, groups: Groups) -> LinearState:
        """The states of whole sets: ``x [n, channels]`` in the order of ``groups.rows``."""
        weights, values = groups.split(self._weights(x)), groups.split(self.value(x))
        return LinearState(
            torch.cat([w.mT @ v for w, v in zip(weights, values, strict=True)]),
            torch.cat([w.sum(1) for w in weights]),
        )

    def combine(self, left: LinearState, right: LinearState) -> LinearState:
        return self.inner.combine(left, right)

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> LinearState:
        dtype = self.slots.dtype if dtype is None else dtype
        return self.inner.identity(n, dtype=dtype, device=device or self.slots.device)

    def weigh(self, state: LinearState, weight: Tensor) -> LinearState:
        return self.inner.weigh(state, weight)

    def segment(self, state: LinearState, index: Tensor, dim_size: int) -> LinearState:
        return self.inner.segment(state, index, dim_size)

    def lower(self, state: LinearState) -> Tensor:
        return self.norm(divide(state.products, state.norm.unsqueeze(-1))).flatten(1)

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.slots)
        for module in (self.query, self.key, self.value, self.norm):
            module.reset_parameters()

    def _weights(self, x: Tensor) -> Tensor:
        logits = self.key(x) @ self.query(self.slots).mT / self.slots.size(1) ** 0.5
        return logits.sigmoid() if self.activation == "sigmoid" else logits.softmax(-1)

    def __repr__(self) -> str:
        return (
            f"SlotEncoding({self.channels}, slots={self.slots.size(0)}, "
            f"activation={self.activation!r})"
        )
