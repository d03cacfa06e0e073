"""Aggregators of a model whose sets lie with several processes."""

from __future__ import annotations

from typing import TypeVar

import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch_geometric.nn.aggr import Aggregation, MultiAggregation

from lcm_graph.aggregators.base import FoldAggregation
from lcm_graph.aggregators.mix import MixAggregation
from lcm_graph.aggregators.tree import Shards, TreeAggregation
from lcm_graph.reduce.digest import parameter_digest
from lcm_graph.reduce.shards import ranks_of

Model = TypeVar("Model", bound=nn.Module)


def shard(model: Model, group: dist.ProcessGroup | DeviceMesh | None = None) -> Model:
    """Let the aggregators of a model fold sets whose elements lie with several processes.

    From then on an aggregator's call is a collective operation: every rank passes the elements that
    it has, with sets numbered alike, and gets the answers of all sets, as
    :func:`~lcm_graph.reduce.distributed_reduce` gives them. So a layer's edges can be shared out
    among ranks that all have the nodes' features, hubs' edges among several::

        net = shard(net)  # after init_process_group, on every rank, with the same parameters
        out = net(x, my_edges)  # of all nodes
        loss = loss_of(out[my_nodes], y[my_nodes])  # what this rank answers for
        loss.backward()
        for weight in net.parameters():
            dist.all_reduce(weight.grad)

    Gradients are those of the sum of all ranks' losses; each rank has its part of them, hence the
    last two lines. What a layer makes of edges otherwise, such as ``GCNConv``'s normalisation or
    attention over a node's edges, it still makes of this rank's edges alone.

    ``shard`` itself is a collective operation: ranks compare their parameters.

    Args:
        model: with :class:`LCMAggregation` or :class:`MonoidAggregation` and those derived from it,
            in the given order and along canonical trees, and no other aggregators.
        group: the ranks, or a one-dimensional ``DeviceMesh`` (default: all processes).

    Returns:
        ``model``.

    Raises:
        TypeError: ``model`` is no module, or an aggregator of it cannot be shared out: one of PyG's
            own, a recurrent one, or a mix, which draws by itself on each rank.
        ValueError: there is no aggregator, one orders elements or draws trees by itself or has a
            loss of its own, or parameters differ between ranks.
        RuntimeError: torch.distributed is not initialised.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"'model' must be a torch.nn.Module (got {type(model).__name__})")
    found = []
    for name, module in model.named_modules():
        if isinstance(module, Aggregation) and not isinstance(module, MultiAggregation):
            found.append(_checked(name or "the model", module))
    if not found:
        raise ValueError(
            "'model' has no aggregator of lcm_graph to share out; pass LCMAggregation or "
            "MonoidAggregation to its layers"
        )
    _check_same_parameters(model, ranks_of(group))
    for aggr in found:
        aggr.shards = Shards(group)
    return model


def _checked(name: str, aggr: Aggregation) -> TreeAggregation:
    if not isinstance(aggr, FoldAggregation):
        raise TypeError(
            f"{name} is PyG's {type(aggr).__name__}, which would see this rank's elements alone; "
            "use lcm_graph's, e.g. MonoidAggregation(Mean())"
        )
    if not isinstance(aggr, TreeAggregation) or isinstance(aggr, MixAggregation):
        raise TypeError(
            f"{name} is a {type(aggr).__name__}, which cannot be shared out among processes; "
            "LCMAggregation and MonoidAggregation can"
        )
    if aggr.order != "given" or aggr.bracketing != "canonical":
        raise ValueError(
            f"{aggr} cannot be shared out: it has order={aggr.order!r} and "
            f"bracketing={aggr.bracketing!r}, which look at all of a set; make it with "
            "order='given' and bracketing='canonical'"
        )
    if aggr.associativity or aggr.commutativity:
        raise ValueError(
            f"{aggr} cannot be shared out: its losses would be of this rank's elements alone; make "
            "it without associativity and commutativity"
        )
    return aggr


def _check_same_parameters(model: nn.Module, ranks: dist.ProcessGroup) -> None:
    digests: list[str] = [""] * dist.get_world_size(ranks)
    dist.all_gather_object(digests, parameter_digest(model), group=ranks)
    differing = [rank for rank, other in enumerate(digests) if other != digests[0]]
    if differing:
        raise ValueError(
            f"'model' must have the same parameters on all ranks (ranks {differing} differ from "
            "rank 0): seed alike before making it, or broadcast rank 0's"
        )
