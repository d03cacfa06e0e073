"""Checking that what is folded is what the monoid folds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from lcm_graph.monoids import Monoid, State

T = TypeVar("T")


def check_monoid_type(monoid: object) -> None:
    """TypeError if ``monoid`` is none."""
    if not isinstance(monoid, Monoid):
        if isinstance(getattr(monoid, "monoid", None), Monoid):
            raise TypeError(
                "'monoid' must be a Monoid: give this aggregator's, aggr.monoid (got "
                f"{type(monoid).__name__})"
            )
        got = "a Tensor" if isinstance(monoid, Tensor) else repr(monoid)
        raise TypeError(f"'monoid' must be a Monoid, e.g. Sum(64), and comes first (got {got})")


def explained(monoid: Monoid, states: State, fold: Callable[..., T], *args: Any) -> T:
    """``fold(*args)``; if that fails since ``states`` are elements, which were not lifted, say so.

    Raises:
        ValueError: they are.
    """
    try:
        return fold(*args)
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        if torch.compiler.is_compiling() or not _are_elements(monoid, states):
            raise
        raise ValueError(
            f"'states' must be what {type(monoid).__name__}.lift makes of elements (got the "
            f"elements, a tensor of shape {tuple(states.shape)}); pass monoid.lift(x)"
        ) from error


def _are_elements(monoid: Monoid, states: State) -> bool:
    """Whether ``states`` could be lifted, and would then be something else."""
    if not isinstance(states, Tensor):
        return False
    try:
        with torch.no_grad():
            lifted = monoid.lift(states[:0])
    except (RuntimeError, TypeError, ValueError):
        return False
    return not isinstance(lifted, Tensor) or lifted.shape[1:] != states.shape[1:]
