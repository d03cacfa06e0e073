"""Packages that only graph data sets need."""

from __future__ import annotations

import importlib
from typing import Any


def import_networkx() -> Any:
    """networkx, or ImportError with the remedy."""
    return _import("networkx")


def import_csgraph() -> Any:
    """``scipy.sparse.csgraph``, or ImportError with the remedy."""
    return _import("scipy.sparse.csgraph")


def import_pandas() -> Any:
    """pandas, or ImportError with the remedy."""
    return _import("pandas")


def import_sparse() -> Any:
    """``scipy.sparse``, or ImportError with the remedy."""
    return _import("scipy.sparse")


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{name} is needed for this data and could not be imported ({error}); install it "
            "with: pip install 'lcm-graph[graphs]'"
        ) from error
