"""How far from associative a trained model's operator is, on the states that it meets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lcm_graph.aggregators import TreeAggregation
from lcm_graph.datasets import SetBatch
from lcm_graph.monoids import Monoid, State
from lcm_graph.reduce import FoldPlan
from lcm_graph.regularizers import associativity_error


@torch.no_grad()
def tree_associativity_error(model: nn.Module, batch: SetBatch) -> float | None:
    """The relative error of a model (in eval mode), on the trees that it folds ``batch`` along.

    See :func:`lcm_graph.regularizers.associativity_error`. The largest, where the model folds with
    several operators that are not associative; None where it folds with none, or where the error is
    no finite number.
    """
    errors: list[float] = []

    def watch(monoid: Monoid, states: State, plan: FoldPlan) -> None:
        monoid = monoid.folds_as
        if monoid.factors:
            for factor, state in zip(monoid.factors, states, strict=True):
                watch(factor, state, plan)
        elif not monoid.associative:
            errors.append(associativity_error(monoid, states, plan))

    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, TreeAggregation):
                stack.enter_context(_watched(module, watch))
        model(batch.x, batch.ptr)
    finite = errors and all(math.isfinite(error) for error in errors)
    return max(errors) if finite else None


@contextmanager
def _watched(
    tree: TreeAggregation, watch: Callable[[Monoid, State, FoldPlan], None]
) -> Iterator[None]:
    """Call ``watch`` with all that ``tree`` folds."""
    fold_with = tree.fold_with

    def fold_and_watch(monoid: Monoid, x: Tensor, plan: FoldPlan, weight: Any) -> Tensor:
        watch(monoid, monoid.lift(x), plan)
        return fold_with(monoid, x, plan, weight)

    tree.fold_with = fold_and_watch  # type: ignore[method-assign]
    try:
        yield
    finally:
        del tree.fold_with
