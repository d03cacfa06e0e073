"""Deterministic tests that fail on any warning of ours."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch

# Kernels run in Triton's interpreter, which must be chosen before Triton is imported.
os.environ.setdefault("TRITON_INTERPRET", "1")

with warnings.catch_warnings():
    # 2026-11: torch_geometric 2.8.1, and torch 2.13 at the first use of forward mode or of its
    # compiler, use the deprecated torch.jit when they are imported.
    warnings.simplefilter("ignore")
    import torch._decomp.decompositions_for_jvp
    import torch.utils.mkldnn
    import torch_geometric.nn  # noqa: F401


def _dot(self: Any, a: Any, b: Any, d: Any, *_: object) -> Any:
    """The interpreter's matrix product, whose rows round alike wherever they stand, as a GPU's do.

    Some processors' BLAS kernels handle the last rows of a block by other instructions than the
    first, so that a row's bits would tell where it lay.
    """
    wide = np.matmul(a.data.astype(np.float64), b.data.astype(np.float64))
    return interpreter.TensorHandle(wide.astype(d.data.dtype) + d.data, d.dtype.scalar)


with contextlib.suppress(ImportError):  # Triton is for Linux
    from triton.runtime import interpreter

    interpreter.InterpreterBuilder.create_dot = _dot

hypothesis.settings.register_profile(
    "deterministic", derandomize=True, deadline=None, max_examples=40, database=None
)
hypothesis.settings.load_profile("deterministic")


@pytest.fixture(autouse=True)
def seed() -> Iterator[None]:
    """Every test begins with the same random state and leaves the caller's behind."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
