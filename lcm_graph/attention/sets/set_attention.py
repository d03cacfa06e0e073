"""Elements that attend to their own set, without padding."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lcm_graph.aggregators.base import check_dtype, check_features
from lcm_graph.attention.sets.block import AttentionBlock
from lcm_graph.attention.sets.seed_attention import check_heads
from lcm_graph.monoids import Monoid
from lcm_graph.monoids.base import check_positive
from lcm_graph.reduce import FoldPlan
from lcm_graph.reduce.groups import Groups, groups_of
from lcm_graph.reduce.plan import make_plan


class OnSets(nn.Module):
    """Base: ``[n, channels]`` to ``[n, channels]``, set by set."""

    channels: int

    def on_groups(self, x: Tensor, groups: Groups) -> Tensor:
        """Elements ``[n, channels]`` in the order of ``groups.rows``."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        raise NotImplementedError

    def on_plan(self, x: Tensor, plan: FoldPlan) -> Tensor:
        """Elements ``[n, channels]`` of the sets of a plan."""
        groups = groups_of(plan)
        if not groups.shapes:
            return x + 0 * sum(parameter.sum() for parameter in self.parameters())
        answers = self.on_groups(x.index_select(0, groups.rows), groups)
        return answers.index_select(0, groups.rows.argsort())

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
            ValueError: ``x`` has another shape or is not floating point; see also
                :func:`~lcm_graph.reduce.segment_reduce`.
        """
        if x.dim() != 2:
            raise ValueError(f"'x' must be [n, {self.channels}] (got {list(x.shape)})")
        check_features(x, self.channels, type(self).__name__)
        check_dtype(x, self)
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
        self.channels = check_positive("channels", channels)
        check_heads(channels, heads)
        self.mab = AttentionBlock(channels, heads, layer_norm, dropout)

    def on_groups(self, x: Tensor, groups: Groups) -> Tensor:
        q, (k, v) = self.mab.queries(x), self.mab.keys_and_values(x)
        parts = zip(groups.split(q), groups.split(k), groups.split(v), strict=True)
        gathered = [self.mab.attended(*part).flatten(1, 2) for part in parts]
        return self.mab.finish(x, torch.cat(gathered, dim=1))

    def on_dense(self, elements: Tensor) -> Tensor:
        """Sets of one size, ``[B, m, channels]``."""
        out: Tensor = self.mab(elements, elements)
        return out

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        self.mab.reset_parameters()


class InducedSetAttention(OnSets):
    """Learned points attend to each set, and its elements to what these found (ISAB).

    Linear in the number of elements.

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
        self.channels = check_positive("channels", channels)
        check_heads(channels, heads)
        points = check_positive("num_induced_points", num_induced_points)
        self.ind = nn.Parameter(torch.empty(1, points, channels))
        self.mab1 = AttentionBlock(channels, heads, layer_norm, dropout)
        self.mab2 = AttentionBlock(channels, heads, layer_norm, dropout)
        self.reset_parameters()

    def on_groups(self, x: Tensor, groups: Groups) -> Tensor:
        found = self._found(x, groups)  # [sets, points, channels]
        q = self.mab2.queries(x)
        k, v = (part.transpose(0, 1) for part in self.mab2.keys_and_values(found))
        parts = zip(groups.split(q), groups.split_sets(k), groups.split_sets(v), strict=True)
        gathered = [self.mab2.attended(*part).flatten(1, 2) for part in parts]
        return self.mab2.finish(x, torch.cat(gathered, dim=1))

    def _found(self, x: Tensor, groups: Groups) -> Tensor:
        """What the points find in each set."""
        points = self.mab1.queries(self.ind[0]).unsqueeze(1)  # [heads, 1, points, c]
        parts = zip(*map(groups.split, self.mab1.keys_and_values(x)), strict=True)
        gathered = torch.cat(
            [self.mab1.attended(points.expand(-1, k.size(1), -1, -1), k, v) for k, v in parts],
            dim=1,
        )
        seeds = self.ind.expand(gathered.size(1), -1, -1)
        return self.mab1.finish(seeds, gathered.transpose(0, 1))

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        nn.init.xavier_uniform_(self.ind)
        self.mab1.reset_parameters()
        self.mab2.reset_parameters()


def check_blocks(name: str, count: int) -> int:
    """Returns ``count``; ValueError if it is no number of blocks."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise ValueError(f"'{name}' must be an integer from 0 up (got {count!r})")
    return count


def reset_all(*modules: Iterable[nn.Module]) -> None:
    """Draw the parameters of blocks and monoids anew."""
    for some in modules:
        for module in some:
            assert isinstance(module, (OnSets, Monoid))
            module.reset_parameters()
