"""Which implementation of a kernel runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

BACKENDS = ("auto", "torch", "triton", "compile")
VARIABLE = "LCM_GRAPH_BACKEND"


def _checked(name: str, where: str) -> str:
    if name not in BACKENDS:
        raise ValueError(f"{where} must be one of {', '.join(BACKENDS)} (got {name!r})")
    return name


_current = _checked(os.environ.get(VARIABLE) or "auto", VARIABLE)
_ran: list[str] | None = None


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Choose the kernels that run inside the ``with`` block, in this process: in all its threads.

    The environment variable ``LCM_GRAPH_BACKEND`` sets what holds outside of any block. Where a
    monoid has no kernel of the kind, torch's operators serve. The backward pass takes the way of
    its forward pass.

    Args:
        name: ``"auto"``: Triton for tensors on a CUDA device if it is installed, torch's operators
            otherwise. ``"torch"``: torch's operators. ``"triton"``: Triton, on a CUDA device (or
            anywhere with ``TRITON_INTERPRET=1``, for tests). ``"compile"``: torch's matrix products
            with the elementwise part compiled by ``torch.compile``, which takes seconds at the
            first call (and a C++ compiler on CPU) and serves sets of any sizes from then on.

    Raises:
        ValueError: there is no such backend.
    """
    global _current
    before, _current = _current, _checked(name, "'name'")
    try:
        yield
    finally:
        _current = before


def current_backend() -> str:
    """The name that :func:`backend` or the environment chose."""
    return _current


@contextmanager
def record_kernels() -> Iterator[list[str]]:
    """Collect the kernels that run inside the ``with`` block, e.g. ``"binary_gru/triton"``."""
    global _ran
    ran: list[str] = []
    before, _ran = _ran, ran
    try:
        yield ran
    finally:
        _ran = before


def note(kernel: str) -> None:
    """Say that ``kernel`` runs (see :func:`record_kernels`)."""
    if _ran is not None:
        _ran.append(kernel)
