"""Keys and values of a fixed context, with summaries of their clusters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lcm_graph.attention.dense.inputs import scale_of
from lcm_graph.attention.selective.partition import contiguous_blocks, kmeans
from lcm_graph.attention.states import ClusterState, ClusterSummary
from lcm_graph.monoids.mean import count_dtype
from lcm_graph.monoids.state import map_state
from lcm_graph.reduce import segment_reduce
from lcm_graph.reduce.groups import groups_of
from lcm_graph.reduce.plan import make_plan

PARTITIONS = ("kmeans", "blocks")


class Level(NamedTuple):
    """A partition, and summaries of its clusters."""

    labels: Tensor  # int64 [B, H, M]: the cluster of each key, or of each finer cluster
    summary: ClusterState  # [B, H, C]


@dataclass(frozen=True)
class KeyIndex:
    """What queries look up before they look at keys.

    Attributes:
        k: ``[B, H, M, D]``.
        v: ``[B, H, M, C]``.
        levels: the finest partition, of keys, first; then partitions of its clusters.
        monoid: what summarises clusters.
        scale: of the logits.
    """

    k: Tensor
    v: Tensor
    levels: tuple[Level, ...]
    monoid: ClusterSummary
    scale: float

    @classmethod
    def build(
        cls,
        k: Tensor,
        v: Tensor,
        *,
        clusters: int | float = 0.05,
        coarse: int | float | None = None,
        partition: str | Tensor = "kmeans",
        order: int = 1,
        scale: float | None = None,
        seed: int = 0,
    ) -> KeyIndex:
        """Cluster keys and summarise the clusters.

        Differentiable in ``k`` and ``v``; which key is in which cluster is a constant.

        Args:
            k: floating point ``[B, H, M, D]``.
            v: ``[B, H, M, C]``.
            clusters: how many, or which fraction of the number of keys; a float is a fraction.
            coarse: of a second level of clusters of clusters, likewise a number or fraction of the
                number of keys; none if ``None``.
            partition: ``"kmeans"`` of normalised keys, ``"blocks"`` of neighbours, or labels int64
                ``[B, H, M]`` or ``[M]`` from 0 up.
            order: of the summaries, see :class:`ClusterSummary`.
            scale: of the logits (default: ``D ** -0.5``).
            seed: of k-means.

        Raises:
            ValueError: shapes do not go together, there are no heads, a number of clusters is none,
                there is no such partition, or keys that k-means is to cluster are not finite.
            ImportError: scikit-learn is not installed (extra ``attention``), for k-means.

        Source: Hooper et al., "Squeezed Attention" (2024), section 3.2.
        """
        if k.dim() != 4 or v.dim() != 4 or k.shape[:3] != v.shape[:3]:
            raise ValueError(
                "'k' [B, H, M, D] and 'v' [B, H, M, C] must have batch, heads and M in common (got "
                f"{list(k.shape)} and {list(v.shape)})"
            )
        if not k.size(1):
            raise ValueError(f"'k' must have a head at least (got {list(k.shape)})")
        if not k.is_floating_point() or v.dtype != k.dtype or v.device != k.device:
            raise ValueError(
                "'k' and 'v' must be floating point, of one dtype and device "
                f"(got {k.dtype} on {k.device} and {v.dtype} on {v.device})"
            )
        keys = k.size(2)
        if isinstance(partition, Tensor):
            if partition.shape not in (k.shape[:3], k.shape[2:3]):
                raise ValueError(
                    f"'partition' must have labels {list(k.shape[:3])} or {[keys]} "
                    f"(got {list(partition.shape)})"
                )
            labels = partition.to(k.device).expand(k.shape[:3])
            if labels.dtype != torch.int64 or (labels < 0).any():
                least = int(labels.min()) if labels.numel() else 0
                raise ValueError(
                    f"'partition' must be int64 labels from 0 up (got {labels.dtype} from {least})"
                )
        elif partition == "kmeans":
            labels = kmeans(k, number_of_clusters(clusters, keys, "clusters"), seed=seed)
        elif partition == "blocks":
            size = -(-keys // number_of_clusters(clusters, keys, "clusters")) if keys else 1
            labels = contiguous_blocks(keys, size).to(k.device).expand(k.shape[:3])
        else:
            raise ValueError(
                f"'partition' must be one of {', '.join(PARTITIONS)}, or labels (got {partition!r})"
            )
        monoid = ClusterSummary(k.size(3), v.size(3), order)
        finest = Level(labels, summarize_tokens(monoid, k, v, labels))
        levels = [finest]
        if coarse is not None:
            centres, _ = monoid.means(finest.summary)
            above = kmeans(centres, number_of_clusters(coarse, keys, "coarse"), seed=seed)
            flat = map_state(lambda t: t.flatten(0, 2), finest.summary)
            levels.append(Level(above, summarize(monoid, flat, above)))
        return cls(k, v, tuple(levels), monoid, scale_of(k, scale))

    @property
    def labels(self) -> Tensor:
        """The cluster of each key: int64 ``[B, H, M]``."""
        return self.levels[0].labels

    @property
    def summary(self) -> ClusterState:
        """The clusters: ``[B, H, C]``."""
        return self.levels[0].summary

    def tokens(self, clusters: Tensor) -> Tensor:
        """Which keys are in the clusters marked: bool ``[B, H, C]`` -> ``[B, H, M]``."""
        return clusters.gather(2, self.labels)

    def __repr__(self) -> str:
        sizes = ", ".join(str(level.summary.size.size(2)) for level in self.levels)
        return f"KeyIndex(keys={list(self.k.shape)}, clusters={sizes}, order={self.monoid.order})"


def check_asked(q: Tensor, index: object) -> None:
    """Refuse queries that do not go with an index's keys, and what is no index.

    Raises:
        TypeError: ``index`` is none.
        ValueError: batch, features or heads of ``q`` do not go with them.
    """
    if not isinstance(index, KeyIndex):
        raise TypeError(
            f"'index' must be a KeyIndex, such as KeyIndex.build(k, v) (got {type(index).__name__})"
        )
    batch, heads, _, features = index.k.shape
    fits = q.dim() == 4 and (q.size(0), q.size(3)) == (batch, features)
    if not fits or q.size(1) % heads:
        raise ValueError(
            f"'q' must be [{batch}, a multiple of {heads}, N, {features}] as the index's keys are "
            f"(got {list(q.shape)})"
        )


def summarize_tokens(
    monoid: ClusterSummary, k: Tensor, v: Tensor, labels: Tensor, weight: Tensor | None = None
) -> ClusterState:
    """Fold keys and values ``[B, H, M, D or C]`` by ``labels [B, H, M]``, each ``weight`` times (a
    number from 0 to 1), in float32 at least.

    As lifting and folding them does; but the products of order 2, D² numbers a key when lifted, are
    of matrices of all keys of clusters of one size.
    """
    dtype = count_dtype(k.dtype)
    keys, values = k.flatten(0, 2).to(dtype), v.flatten(0, 2).to(dtype)
    weights = None if weight is None else weight.flatten().to(dtype)
    first = ClusterSummary(monoid.key_channels, monoid.value_channels)
    states = first.lift(keys, values)
    folded = summarize(first, states if weights is None else first.weigh(states, weights), labels)
    if monoid.order == 1:
        return folded
    count = folded.size.numel()
    plan = make_plan(len(keys), _index(labels, folded.size.size(2)), None, count, keys.device)
    groups = groups_of(plan)
    counted = keys if weights is None else keys * weights.unsqueeze(-1)
    left = groups.split(counted.index_select(0, groups.rows))

    def products(right: Tensor) -> Tensor:
        found = keys.new_zeros(count, monoid.key_channels, right.size(-1))
        parts = groups.split(right.index_select(0, groups.rows))
        if parts:
            sums = torch.cat([one.mT @ other for one, other in zip(left, parts, strict=True)])
            found = found.index_copy(0, groups.sets, sums)
        return found.unflatten(0, folded.size.shape)

    return folded._replace(key_products=products(keys), value_products=products(values))


def _index(labels: Tensor, clusters: int) -> Tensor:
    """Labels ``[B, H, M]`` of all batches' and heads' clusters side by side, ``[B * H * M]``."""
    batch, heads, _ = labels.shape
    offset = clusters * torch.arange(batch * heads, device=labels.device).view(batch, heads, 1)
    return (labels + offset).flatten()


def summarize(monoid: ClusterSummary, states: ClusterState, labels: Tensor) -> ClusterState:
    """Fold tokens, or clusters, ``[B * H * M]`` by ``labels [B, H, M]`` -> ``[B, H, C]``."""
    batch, heads, _ = labels.shape
    clusters = int(labels.max()) + 1 if labels.numel() else 1
    index = _index(labels, clusters)
    folded = segment_reduce(monoid, states, index, dim_size=batch * heads * clusters)
    return map_state(lambda t: t.unflatten(0, (batch, heads, clusters)), folded)


def number_of_clusters(wanted: int | float, keys: int, name: str) -> int:
    """A number of clusters, of a number or a fraction of the keys.

    Raises:
        ValueError: it is neither.
    """
    is_fraction = not hasattr(wanted, "__index__")  # as numpy's numbers have it, too
    if isinstance(wanted, bool) or not wanted > 0 or (is_fraction and wanted > 1):
        raise ValueError(
            f"'{name}' must be a number from 1 up, or a fraction of the keys (got {wanted!r})"
        )
    return max(1, round(wanted * keys)) if is_fraction else int(wanted)
