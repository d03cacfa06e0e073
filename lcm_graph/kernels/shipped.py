"""The kernels of this library; importing this registers them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lcm_graph.kernels import registry
from lcm_graph.kernels.binary_gru import kernel as binary_gru  # noqa: F401
from lcm_graph.kernels.segment.closed_forms import KERNELS
from lcm_graph.kernels.segment.formula import Sets
from lcm_graph.monoids import State


def _of_plan(fold: Callable[[Any, State, Sets], State | None]) -> registry.Kernel:
    def kernel(
        monoid: Any, states: State, plan: registry.Sets, recompute: bool | None
    ) -> State | None:
        index = None if plan.source is not None else plan.index
        sets = Sets(plan.ptr, plan.rows, index, plan.num_sets, plan.num_elements, plan.derived)
        return fold(monoid, states, sets)

    return kernel


for _monoid, _fold in KERNELS.items():
    registry.register_closed_form(_monoid, "cpu", "cuda")(_of_plan(_fold))
