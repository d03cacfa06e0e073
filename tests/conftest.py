"""Deterministic tests that fail on any warning of ours."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator

import hypothesis
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
