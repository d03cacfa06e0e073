"""PyG's ``Aggregation`` contract, kept once for all aggregators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch_geometric import Index
from torch_geometric.nn.aggr import Aggregation

from lcm_graph.aggregators.order import canonical_order, check_order
from lcm_graph.monoids.base import check_positive
from lcm_graph.reduce import FoldPlan
from lcm_graph.reduce.plan import make_plan
from lcm_graph.reduce.sets import check_vector

MOST_PENALTIES = 128
"""Regularisation losses that wait to be asked for, before it is taken for an oversight: each keeps
the graph of its call in memory."""


class FoldAggregation(Aggregation):
    """Base of the aggregators: finds out what the sets are and folds each of them.

    A subclass writes :meth:`fold`. Calls are PyG's: ``aggr(x, index)``, ``aggr(x, ptr=ptr)`` or
    both, with ``index`` in any order, ``dim_size`` beyond the last index, empty sets and empty
    input. Features are the last dimension; dimensions other than ``dim`` and the last are carried
    along.

    Args:
        order: in which order the elements of a set are folded. ``"given"``: as they come.
            ``"random"``: shuffled in each call while training, as given otherwise (Ong & Veličković
            2022, Sec. 2.5). ``"canonical"``: sorted by value, which makes the answer exactly
            independent of the order in which the elements come (and a function with jumps where two
            elements change places).
        cached: plan the sets at the first call and use the plan ever after. Only for a graph that
            stays the same (as PyG's ``GCNConv(cached=True)``); other sets are refused.
    """

    gathers: ClassVar[bool] = False
    """Whether :meth:`fold` takes a plan that gathers elements from the rows of ``x``."""

    def __init__(self, order: str = "given", cached: bool = False) -> None:
        super().__init__()
        self.order = check_order(order)
        self.cached = cached
        self._plan: FoldPlan | None = None
        self._gathered_plan: tuple[FoldPlan, FoldPlan] | None = None  # of which plan, and the plan
        self._weight: Tensor | None = None
        self._penalties: list[Tensor] = []

    def fold(self, x: Tensor, plan: FoldPlan, weight: Tensor | None) -> Tensor:
        """Fold elements ``x [n, F]`` to ``[num_sets, out_channels]``.

        Args:
            x: the elements, or the rows that ``plan`` gathers them from, if it does.
            plan: the sets.
            weight: ``[n]`` in [0, 1], how much of each element is there, or ``None`` for all of it.
        """
        raise NotImplementedError

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        _check_tensors(args, kwargs)
        source = kwargs.get("source")
        if source is not None:
            check_vector("source", source)
            named = [*args[1:3], kwargs.get("index"), kwargs.get("ptr")]
            if all(where is None for where in named):  # PyG would count the rows of x
                kwargs["ptr"] = torch.tensor([0, source.numel()], device=source.device)
        try:
            return super().__call__(*args, **kwargs)
        finally:
            self._weight = None  # also where PyG's checks or ours refused the call

    def __getstate__(self) -> dict[str, Any]:
        return {
            **self.__dict__,
            "_plan": None,
            "_gathered_plan": None,
            "_weight": None,
            "_penalties": [],
        }

    def mask_next(self, weight: Tensor) -> None:
        """Use ``weight`` (see :meth:`forward`) in the next call, and in that one alone."""
        self._weight = weight

    def penalize(self, loss: Tensor) -> None:
        """Add a scalar to what :meth:`regularization` gives next (for :meth:`fold` to call).

        A call that activation checkpointing repeats in the backward pass does not count again.

        Raises:
            RuntimeError: nobody has asked for the losses of many calls, whose graphs pile up.
        """
        if torch._C._current_graph_task_id() != -1:
            return
        if len(self._penalties) >= MOST_PENALTIES:
            self._penalties.clear()
            raise RuntimeError(
                f"{type(self).__name__} has computed {MOST_PENALTIES} regularisation losses that "
                "nobody asked for: add aggr.regularization() to each training loss "
                "(lcm_graph.regularization(model) for all of a model), more often if one loss "
                "takes more calls, or give them weight 0"
            )
        self._penalties.append(loss)

    def regularization(self) -> Tensor:
        """The regularisation losses of the calls in training mode since it was last asked for.

        A scalar, to be added to the training loss: ``loss + aggr.regularization()``. 0 where none
        was asked for at construction.
        """
        losses, self._penalties = self._penalties, []
        return sum(losses, start=torch.zeros(()))

    def reset_parameters(self) -> None:
        """Draw all parameters anew and forget a cached plan."""
        self.clear_plan()

    def forward(
        self,
        x: Tensor,
        index: Tensor | None = None,
        ptr: Tensor | None = None,
        dim_size: int | None = None,
        dim: int = -2,
        max_num_elements: int | None = None,
        *,
        weight: Tensor | None = None,
        source: Tensor | None = None,
    ) -> Tensor:
        r"""Aggregate.

        Args:
            x: floating point :math:`(*, n, F)`, the elements along ``dim``.
            index: integers ``[n]``, the set of each element, in any order.
            ptr: integers ``[S + 1]``, if the sets lie end to end.
            dim_size: number of sets S.
            dim: the dimension of the elements; not the last, which holds the features.
            max_num_elements: accepted for PyG's sake; nothing is padded, so nothing depends on it.
            weight: ``[n]`` in [0, 1], how much of each element is there: 1 all of it, 0 as if it
                were left out. For monoids that define it.
            source: integers ``[n]``, if elements are gathered: element e is ``x[source[e]]``, so
                that ``x`` may have any number of rows along ``dim``. The same as
                ``aggr(x[source], …)``, but where the fold can read rows in place no such tensor is
                written, and a projection is computed once for each row.

        Returns:
            :math:`(*, S, \text{out\_channels})`.

        Raises:
            ValueError: see :func:`lcm_graph.reduce.segment_reduce`; or ``dim`` is the last
                dimension, or ``x`` has not the features that were announced.
        """
        if dim % x.dim() == x.dim() - 1:
            raise ValueError(
                f"'dim' must leave the last dimension to the features (got dim {dim} for an input "
                f"of shape {tuple(x.shape)})"
            )
        x = x.movedim(dim, -2)
        n = x.size(-2)
        if source is not None:  # as many elements as the index says: the source is checked then
            n = source.numel() if index is None else index.numel()
        weight = _check_weight(self._weight if weight is None else weight, n)
        plan = self._plan_for(x.device, n, index, ptr, dim_size)
        num_sets = plan.num_sets
        if source is not None and (
            weight is not None or self.order == "canonical" or not self.gathers
        ):
            plan.gather(source, x.size(-2))  # for its checks
            x, source = x.index_select(-2, source), None
        if weight is not None:  # what is not there is not looked at, not even if it is NaN
            x = torch.where(weight.unsqueeze(-1) == 0, 0, x)
        lead = x.shape[:-2]
        if lead:
            times = lead.numel()
            plan = self._planned(FoldPlan.repeat, plan, times)
            weight = None if weight is None else weight.repeat(times)
            if source is not None:
                starts = x.size(-2) * torch.arange(times, device=x.device)
                source = (source + starts.unsqueeze(1)).flatten()
            x = x.reshape(-1, x.size(-1))
        out = self._fold_in_order(x, plan, weight, source)
        if lead:
            out = out.reshape(*lead, num_sets, out.size(-1))
        return out.movedim(-2, dim).contiguous()  # layers with heads view it

    def _fold_in_order(
        self, x: Tensor, plan: FoldPlan, weight: Tensor | None, source: Tensor | None
    ) -> Tensor:
        if self.order == "random" and self.training:
            plan = self._planned(FoldPlan.shuffled, plan)
        elif self.order == "canonical":
            # The rows are laid out anew before anything is computed from them, so that not even
            # a rounding error can depend on where an element came from.
            rows = canonical_order(plan, x, weight)
            x = x.index_select(0, rows)
            weight = None if weight is None else weight.index_select(0, rows)
            plan = self._planned(FoldPlan, plan.ptr, plan.num_elements)
        if weight is not None:  # elements that are not there come last: the rest fold as without
            plan = self._planned(FoldPlan.ordered_by, plan, (weight == 0).long())
        if source is not None:
            plan = self._gathered(plan, source, x.size(0))
        return self.fold(x, plan, weight)

    def _gathered(self, plan: FoldPlan, source: Tensor, rows: int) -> FoldPlan:
        if self._gathered_plan is not None and plan is self._plan:
            known, gathered = self._gathered_plan
            if known is plan and gathered.gathers(source, rows):
                return gathered
        gathered = self._planned(FoldPlan.gather, plan, source, rows)
        if plan is self._plan:
            self._gathered_plan = (plan, gathered)
        return gathered

    def _plan_for(
        self,
        device: torch.device,
        n: int,
        index: Tensor | None,
        ptr: Tensor | None,
        dim_size: int | None,
    ) -> FoldPlan:
        if isinstance(index, Index):
            index = index.as_tensor()
        plan = self._plan if self.cached else None
        if plan is not None:
            if plan.ptr.device != device:
                plan = self._plan = self._planned(FoldPlan.to, plan, device)
            self._check_same_sets(plan, n, index, ptr, dim_size)
            return plan
        plan = self._planned(make_plan, n, index, ptr, dim_size, device)
        if self.cached:
            self._plan = plan
        return plan

    def _check_same_sets(
        self,
        plan: FoldPlan,
        n: int,
        index: Tensor | None,
        ptr: Tensor | None,
        dim_size: int | None,
    ) -> None:
        """Refuse other sets than the cached plan's (compiled graphs check their sizes only)."""
        same = plan.num_elements == n and dim_size in (None, plan.num_sets)
        if same and not torch.compiler.is_compiling():
            same = (index is None or torch.equal(index.to(plan.index), plan.index)) and (
                ptr is None or torch.equal(ptr.to(plan.ptr), plan.ptr)
            )
        if not same:
            raise ValueError(
                f"{type(self).__name__}(cached=True) was first called with {plan.num_elements} "
                f"elements in {plan.num_sets} sets, and now with other sets (got {n} elements in "
                f"{dim_size}); use cached=False, or call clear_plan() when the sets change"
            )

    def clear_plan(self) -> None:
        """Forget a cached plan: the next call plans anew."""
        self._plan = self._gathered_plan = None

    def _planned(self, make: Callable[..., FoldPlan], *args: Any) -> FoldPlan:
        return _outside_graph(self.cached or torch.compiler.is_compiling(), make, *args)


@torch.compiler.disable
def _outside_graph(prepare: bool, make: Callable[..., FoldPlan], *args: Any) -> FoldPlan:
    """Plan outside of what ``torch.compile`` traces: a plan's sizes are read on the host."""
    with torch.inference_mode(mode=False):  # a plan made now may serve in training later
        plan = make(*args)
        return plan.prepared() if prepare else plan


def _check_tensors(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuse lists and the like, and elements without features, of which PyG's messages are odd."""
    named = dict(zip(("x", "index", "ptr"), args, strict=False)) | kwargs
    for name in ("x", "index", "ptr"):
        value = named.get(name)
        if value is not None and not isinstance(value, Tensor):
            raise TypeError(
                f"'{name}' must be a tensor (got {type(value).__name__}); convert it with "
                "torch.as_tensor"
            )
    x = named.get("x")
    if isinstance(x, Tensor) and x.dim() < 2:
        raise ValueError(
            f"'x' must be [..., elements, features] (got shape {tuple(x.shape)}); of one feature "
            "it is x.unsqueeze(-1)"
        )


def _check_weight(weight: Tensor | None, n: int) -> Tensor | None:
    if weight is None:
        return None
    if weight.shape != (n,):
        raise ValueError(
            f"'weight' must have one entry for each of the {n} elements "
            f"(got shape {tuple(weight.shape)})"
        )
    if not weight.is_floating_point():
        raise ValueError(f"'weight' must be floating-point (got {weight.dtype})")
    return weight


def check_features(x: Tensor, channels: int, name: str) -> None:
    """Refuse elements that are not floating point or have not ``channels`` features."""
    if x.size(-1) != channels:
        raise ValueError(
            f"{name} takes elements of {channels} features (got shape {tuple(x.shape)}); its first "
            f"argument is how many features they have: here {x.size(-1)}"
        )
    if not x.is_floating_point():
        raise ValueError(
            f"{name} takes floating-point elements (got {x.dtype}); convert them with x.float()"
        )


def check_dtype(x: Tensor, module: nn.Module) -> None:
    """Refuse elements of another dtype than a module's parameters, but under autocast."""
    parameter = next(module.parameters(), None)
    if parameter is None or x.dtype == parameter.dtype or torch.is_autocast_enabled(x.device.type):
        return
    raise ValueError(
        f"{type(module).__name__} has parameters of {parameter.dtype} (got elements of {x.dtype}); "
        f"convert either, by x.to({parameter.dtype}) or aggr.to({x.dtype})"
    )


def check_channels(name: str, channels: int) -> int:
    """Refuse channels that are no positive integer (PyG's lazy -1 among them)."""
    return check_positive(name, channels, "; sizes are not inferred lazily")
