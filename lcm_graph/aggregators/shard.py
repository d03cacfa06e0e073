"""Aggregators of a model whose sets lie with several processes."""

from __future__ import annotations

from typing import TypeVar

import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from lcm_graph.aggregators.base import FoldAggregation
from lcm_graph.aggregators.mix import MixAggregation
from lcm_graph.aggregators.tree import Shards, TreeAggregation

Model = TypeVar("Model", bound=nn.Module)


def shard(model: Model, group: dist.ProcessGroup | DeviceMesh | None = None) -> Model:
    """Let the aggregators of a model fold sets whose elements lie with several processes.

    From then on an aggregator's call is a collective operation: every rank passes the elements that
    it has, with sets numbered alike, and gets the answers of all sets, as
    :func:`~lcm_graph.reduce.distributed_reduce` gives them. So a layer's edges can be shared out
    among ranks that all have the nodes' features, hubs' edges among several::

        net = shard(net)  # after init_process_group, on every rank
        out = net(x, my_edges)  # of all nodes
        loss = loss_of(out[my_nodes], y[my_nodes])  # what this rank answers for
        loss.backward()
        for weight in net.parameters():
            dist.all_reduce(weight.grad)

    Gradients are those of the sum of all ranks' losses; each rank has its part of them.

    Args:
        model: with :class:`LCMAggregation` or :class:`MonoidAggregation` and those derived from it,
            in the given order and along canonical trees.
        group: the ranks, or a one-dimensional ``DeviceMesh`` (default: all processes).

    Returns:
        ``model``.

    Raises:
        TypeError: an aggregator of the model cannot be shared out: a recurrent one, or a mix, which
            draws by itself on each rank.
        ValueError: there is no aggregator, or one orders elements or draws trees by itself.
    """
    found = [module for module in model.modules() if isinstance(module, FoldAggregation)]
    if not found:
        raise ValueError(
            "'model' has no aggregator of lcm_graph to share out; pass LCMAggregation or "
            "MonoidAggregation to its layers"
        )
    for aggr in found:
        if not isinstance(aggr, TreeAggregation) or isinstance(aggr, MixAggregation):
            raise TypeError(
                f"{type(aggr).__name__} cannot be shared out among processes; LCMAggregation and "
                "MonoidAggregation can"
            )
        if aggr.order != "given" or aggr.bracketing != "canonical":
            raise ValueError(
                f"{aggr} cannot be shared out: it has order={aggr.order!r} and "
                f"bracketing={aggr.bracketing!r}, which look at all of a set; make it with "
                "order='given' and bracketing='canonical'"
            )
    for aggr in found:
        assert isinstance(aggr, TreeAggregation)
        aggr.shards = Shards(group)
    return model
