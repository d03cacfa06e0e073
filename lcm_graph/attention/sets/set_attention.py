"""Elements that attend to their own set, without padding."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lcm_graph.attention.sets.block import AttentionBlock
from lcm_graph.attention.sets.groups import groups_of
from lcm_graph.attention.sets.seed_attention import check_heads
from lcm_graph.monoids import Monoid
from lcm_graph.monoids.base import check_positive
from lcm_graph.reduce import FoldPlan
from lcm_graph.reduce.plan import make_plan


class OnSets(nn.Module):
    """Base: ``[n, channels]`` to ``[n, channels]``, set by set."""

    def on_dense(self, elements: Tensor) -> Tensor:
        """Sets of one size, ``[B, m, channels]``."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        raise NotImplementedError

    def on_plan(self, x: Tensor, plan: FoldPlan) -> Tensor:
        """Elements ``[n, channels]`` of the sets of a plan."""
        groups = groups_of(plan)
        if not groups:
            return x + 0 * sum(parameter.sum() for parameter in self.parameters())
        answers = [self.on_dense(x[group.rows]).flatten(0, 1) for group in groups]
        rows = torch.cat([group.rows.flatten() for group in groups])
        return torch.cat(answers)[rows.argsort()]

    def forward(
        self,
        x: Tensor,
        index: Tensor | None = None,
        ptr: Tensor | None = None,
        dim_size: int | None = None,
    ) -> Tensor:
        """Answer each element.

        Args:
            x: floating point ``[n, channels]``.
            index: integers ``[n]``, the set of each element, in any order.
            ptr: integers ``[S + 1]``, if the sets lie end to end.
            dim_size: number of sets.

        Returns:
            ``[n, channels]``.

        Raises:
            ValueError: see :func:`~lcm_graph.reduce.segment_reduce`.
        """
        return self.on_plan(x, make_plan(x.size(0), index, ptr, dim_size, x.device))


class SetAttention(OnSets):
    """Each element attends to all elements of its set (SAB).

    Time grows with the sum of the squares of the sets' sizes, memory with the number of elements.

    Args:
        channels: of elements.
        heads: a divisor of ``channels``.
        layer_norm: normalise, twice.
        dropout: of attention weights, while training.

    Raises:
        ValueError: ``heads`` is no divisor of ``channels``, or a number is none.

    Source: Lee et al., "Set Transformer" (2019), equation 8; parameters are named as in PyG's
    ``SetAttentionBlock``.
    """

    def __init__(
        self, channels: int, heads: int = 1, layer_norm: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_heads(check_positive("channels", channels), heads)
        self.mab = AttentionBlock(channels, heads, layer_norm, dropout)

    def on_dense(self, elements: Tensor) -> Tensor:
        out: Tensor = self.mab(elements, elements)
        return out

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        self.mab.reset_parameters()


class InducedSetAttention(OnSets):
    """Learned points attend to each set, and its elements to what these found (ISAB).

    Linear in the number of elements. What the points find is a fold, so it can be made in chunks.

    Args:
        channels: of elements.
        num_induced_points: points.
        heads: a divisor of ``channels``.
        layer_norm: normalise, twice.
        dropout: of attention weights, while training.

    Raises:
        ValueError: ``heads`` is no divisor of ``channels``, or a number is none.

    Source: Lee et al., "Set Transformer" (2019), equations 9 and 10; parameters are named as in
    PyG's ``InducedSetAttentionBlock``.
    """

    def __init__(
        self,
        channels: int,
        num_induced_points: int,
        heads: int = 1,
        layer_norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads(check_positive("channels", channels), heads)
        points = check_positive("num_induced_points", num_induced_points)
        self.ind = nn.Parameter(torch.empty(1, points, channels))
        self.mab1 = AttentionBlock(channels, heads, layer_norm, dropout)
        self.mab2 = AttentionBlock(channels, heads, layer_norm, dropout)
        self.reset_parameters()

    def on_dense(self, elements: Tensor) -> Tensor:
        found = self.mab1(self.ind.expand(elements.size(0), -1, -1), elements)
        out: Tensor = self.mab2(elements, found)
        return out

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        nn.init.xavier_uniform_(self.ind)
        self.mab1.reset_parameters()
        self.mab2.reset_parameters()


def reset_all(*modules: Iterable[nn.Module]) -> None:
    """Draw the parameters of blocks and monoids anew."""
    for some in modules:
        for module in some:
            assert isinstance(module, (OnSets, Monoid))
            module.reset_parameters()
