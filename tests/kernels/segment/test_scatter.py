"""Closed forms against torch-scatter's, where it is installed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lcm_graph import segment_reduce
from lcm_graph.kernels.segment import closed_forms
from lcm_graph.monoids import LogSumExp, Max, Mean, Min, Moments, Monoid, Softmax, Sum
from tests.references import error, index_of

torch_scatter = pytest.importorskip(
    "torch_scatter", reason="torch-scatter is an extra: pip install '.[scatter]'"
)

SIZES = (3, 1, 0, 16, 2, 17, 300)  # torch-scatter answers an empty set with 0
MONOIDS: dict[str, Monoid] = {
    "sum": Sum(4),
    "mean": Mean(4),
    "max": Max(4),
    "min": Min(4),
    "std": Moments(4, statistics=("std",)),
    "logsumexp": LogSumExp(4),
    "softmax": Softmax(4),
}


def theirs(name: str, x: Tensor, index: Tensor) -> Any:
    if name == "std":
        return torch_scatter.scatter_std(x, index, 0, dim_size=len(SIZES), unbiased=False)
    if name == "logsumexp":
        return torch_scatter.scatter_logsumexp(x, index, 0, dim_size=len(SIZES))
    if name == "softmax":
        share = torch_scatter.scatter_softmax(x, index, 0, dim_size=len(SIZES))
        return torch_scatter.scatter(x * share, index, 0, dim_size=len(SIZES))
    return torch_scatter.scatter(x, index, 0, dim_size=len(SIZES), reduce=name)


@pytest.mark.parametrize("kernel", [True, False], ids=["kernel", "plain"])
@pytest.mark.parametrize("name", MONOIDS)
def test_same_answers(name: str, kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closed_forms, "CPU_ABOVE", 0 if kernel else 1 << 60)
    index = index_of(SIZES)
    index = index[torch.randperm(len(index))]
    x = torch.randn(len(index), 4, dtype=torch.float64, requires_grad=True)
    monoid = MONOIDS[name].double()
    out = monoid.lower(segment_reduce(monoid, monoid.lift(x), index, dim_size=len(SIZES)))
    expected = theirs(name, x, index)
    large = torch.tensor(SIZES) > 1  # at one element torch-scatter's deviation adds an epsilon
    rows = large if name == "std" else torch.tensor(SIZES) > 0
    assert error(out[rows], expected[rows]) <= 1e-5
    cotangent = torch.randn_like(out)[rows]
    (got,) = torch.autograd.grad(out[rows], x, cotangent)
    (wanted,) = torch.autograd.grad(expected[rows], x, cotangent)
    elements = rows[index]  # theirs has no gradient where a deviation is 0
    assert error(got[elements], wanted[elements]) <= 1e-5
