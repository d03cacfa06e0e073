"""Layers that fold their neighbours where they stand."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_geometric.typing import Adj, Size

from lcm_graph.aggregators.base import FoldAggregation


class FusedMessages(MessagePassing):
    """Mixin for layers whose message is the neighbour's features as they are, e.g.::

        class FusedSAGEConv(FusedMessages, SAGEConv):
            pass

        conv = FusedSAGEConv(64, 64, aggr=LCMAggregation(64, 64))

    The messages, one row for each edge, are then never written: the aggregator reads the node
    features in place, and a projection in it is computed once for each node. The answer is the
    layer's own. Layers that explain, decompose, have hooks on their messages or an ``aggregate`` of
    their own, or aggregate with something else than this library's folds pass messages as usual.

    Raises:
        TypeError: the layer's ``message`` takes something else than ``x_j``. (That it gives
            ``x_j`` back as it is cannot be checked.)
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # PyG writes a `propagate` of its own into a class that has not one in its own namespace.
        if "propagate" not in cls.__dict__:
            cls.propagate = FusedMessages.propagate  # type: ignore[method-assign]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        taken = list(self.inspector.get_param_dict("message"))
        if taken != ["x_j"]:
            raise TypeError(
                f"{type(self).__name__}: FusedMessages is for layers whose 'message' takes 'x_j' "
                f"and returns it (got a message of {taken}); leave FusedMessages out"
            )

    def propagate(self, edge_index: Adj, size: Size = None, **kwargs: Any) -> Tensor:
        """As PyG's, without the messages."""
        hooks = (
            self._propagate_forward_pre_hooks,
            self._propagate_forward_hooks,
            self._message_forward_pre_hooks,
            self._message_forward_hooks,
            self._aggregate_forward_pre_hooks,
            self._aggregate_forward_hooks,
            self._message_and_aggregate_forward_pre_hooks,
            self._message_and_aggregate_forward_hooks,
        )
        plain = not self.explain and self.decomposed_layers == 1 and not any(hooks)
        plain &= type(self).aggregate is MessagePassing.aggregate
        if not plain or not isinstance(self.aggr_module, FoldAggregation):
            return super().propagate(edge_index, size=size, **kwargs)
        sizes = self._check_input(edge_index, size)
        x = kwargs["x"]
        nodes = x if isinstance(x, (tuple, list)) else (x, x)
        for side, features in enumerate(nodes):
            if isinstance(features, Tensor):
                self._set_size(sizes, side, features)
        wanted = [name for name in self.inspector.get_param_dict("update") if name != "inputs"]
        collected = self._collect(set(wanted), edge_index, sizes, kwargs)
        out = self.aggr_module(
            nodes[0 if self.flow == "source_to_target" else 1],
            collected["index"],
            ptr=collected["ptr"],
            dim_size=collected["dim_size"],
            dim=self.node_dim,
            source=collected["edge_index_j"],
        )
        return self.update(out, **self.inspector.collect_param_data("update", collected))
