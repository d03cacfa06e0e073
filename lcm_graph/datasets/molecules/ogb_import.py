"""Importing OGB without its side effects."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_ABSENT: Any = object()


def import_ogb(module: str) -> ModuleType:
    """Import ``module`` (``"ogb"`` or a part of it) lazily and quietly.

    OGB starts a thread that asks PyPI for its newest version as soon as it is imported with the
    package ``outdated`` present. Here ``outdated`` fails to import for that moment, which OGB
    handles by skipping the check.

    Args:
        module: dotted name, e.g. ``"ogb.graphproppred"``.

    Raises:
        ImportError: OGB is not installed, or one of its own dependencies is missing.
    """
    saved = sys.modules.get("outdated", _ABSENT)
    if "ogb" not in sys.modules:
        sys.modules["outdated"] = None  # type: ignore[assignment]  # makes the import fail
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{module} is needed for molecule data sets and could not be imported ({error}); "
            f"install it with: pip install 'lcm-graph[ogb]'"
        ) from error
    finally:
        if saved is _ABSENT:
            sys.modules.pop("outdated", None)
        else:
            sys.modules["outdated"] = saved
