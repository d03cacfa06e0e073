"""Which monoids have a kernel on which devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.modules.module import _has_any_global_hook

from lcm_graph.kernels.tree import Tree
from lcm_graph.monoids import Monoid, State


class Sets(Protocol):
    """What a kernel asks of a :class:`lcm_graph.reduce.FoldPlan`."""

    ptr: Tensor
    source: Tensor | None
    num_sets: int
    num_elements: int
    derived: dict[str, Any]  # what kernels worked out for these sets

    @property
    def index(self) -> Tensor: ...
    @property
    def rows(self) -> Tensor | None: ...
    @property
    def sizes(self) -> Tensor: ...
    @property
    def tree(self) -> Tree: ...
    @property
    def level_ptr(self) -> Tensor: ...


Kernel = Callable[[Any, State, Any, "bool | None"], "State | None"]
"""``kernel(monoid, states, sets, recompute)`` folds the states of each set.

It returns the states of all sets, if it folds closed forms, or of the occupied ones, if it folds
trees, in order; ``None`` if this input is none of its business (a dtype, a device, a layout): the
general fold then takes over. It is called outside of ``torch.func`` transforms and forward mode.
"""

_TREES: dict[tuple[type[Monoid], str], Kernel] = {}
_CLOSED_FORMS: dict[tuple[type[Monoid], str], Kernel] = {}


def register_tree(monoid: type[Monoid], *devices: str) -> Callable[[Kernel], Kernel]:
    """Make the decorated function fold trees with ``monoid`` on devices of these types."""
    return _register(_TREES, monoid, devices)


def register_closed_form(monoid: type[Monoid], *devices: str) -> Callable[[Kernel], Kernel]:
    """Make the decorated function the closed form of ``monoid`` on devices of these types."""
    return _register(_CLOSED_FORMS, monoid, devices)


def tree_kernel(monoid: Monoid, device: torch.device) -> Kernel | None:
    """The kernel that folds trees with this monoid.

    A subclass inherits none, and one that was patched or given hooks has none.
    """
    return _find(_TREES, monoid, device)


def closed_form_kernel(monoid: Monoid, device: torch.device) -> Kernel | None:
    """The kernel for the closed form of this monoid, as :func:`tree_kernel`."""
    return _find(_CLOSED_FORMS, monoid, device)


def _find(
    kernels: dict[tuple[type[Monoid], str], Kernel], monoid: Monoid, device: torch.device
) -> Kernel | None:
    kernel = kernels.get((type(monoid), device.type))
    if kernel is None:
        return None
    patched = any(name in monoid.__dict__ for name in ("combine", "operator", "segment", "forward"))
    hooks = (
        monoid._forward_hooks,
        monoid._forward_pre_hooks,
        monoid._backward_hooks,
        monoid._backward_pre_hooks,
    )
    return None if patched or any(hooks) or _has_any_global_hook() else kernel


def _register(
    kernels: dict[tuple[type[Monoid], str], Kernel], monoid: type[Monoid], devices: tuple[str, ...]
) -> Callable[[Kernel], Kernel]:
    def add(kernel: Kernel) -> Kernel:
        kernels.update({(monoid, device): kernel for device in devices})
        return kernel

    return add
