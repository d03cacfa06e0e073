"""Drawing a module's parameters anew."""

from __future__ import annotations

from torch import nn


def reset_modules(module: nn.Module) -> None:
    """Call ``reset_parameters`` of all modules in ``module``, and of itself, that have it."""
    for inner in module.modules():
        if callable(reset := getattr(inner, "reset_parameters", None)):
            reset()
