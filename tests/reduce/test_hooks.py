"""Hooks of tensors and modules run as often, and on the same, whichever way a set is folded."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from lcm_graph.monoids import BinaryGRU
from lcm_graph.reduce import segment_reduce, steps
from tests.references import error, index_of

SIZES = (1, 2, 3, 16, 17)


def fold(monoid: BinaryGRU, x: Tensor, recompute: bool) -> Tensor:
    states = segment_reduce(monoid, monoid.lift(x), index_of(SIZES), recompute=recompute)
    return monoid.lower(states)


@pytest.mark.parametrize("create_graph", [False, True])
def test_tensor_hooks_run_once(
    make_gru: type[BinaryGRU], create_graph: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(steps.CHUNK_ELEMENTS, "cpu", 1)  # several steps
    monoid = make_gru(4).double()
    x = torch.randn(sum(SIZES), 4, dtype=torch.float64, requires_grad=True)
    calls: list[Tensor] = []

    def halve(grad: Tensor) -> Tensor:
        calls.append(grad)
        return grad / 2

    inputs = [x, monoid.weight_ih]
    expected = torch.autograd.grad(fold(monoid, x, False).square().sum(), inputs)
    handles = [t.register_hook(halve) for t in inputs]
    out = fold(monoid, x, True).square().sum()
    got = torch.autograd.grad(out, inputs, create_graph=create_graph)
    assert len(calls) == 2
    for mine, plain in zip(got, expected, strict=True):
        assert error(mine, plain / 2) <= 1e-12
    for handle in handles:
        handle.remove()


def test_pruned_weights_are_fresh_everywhere(make_gru: type[BinaryGRU]) -> None:
    """Pruning computes the weight anew in a hook before each call of the module."""
    monoid = make_gru(4).double()
    prune.l1_unstructured(monoid, "weight_ih", amount=0.5)
    x = torch.randn(sum(SIZES), 4, dtype=torch.float64)
    with torch.no_grad():
        monoid.weight_ih_orig.mul_(1.5)  # type: ignore[operator]
        without = fold(monoid, x, True)
    assert error(fold(monoid, x, True), without) <= 1e-12
    assert error(fold(monoid, x, False), without) <= 1e-12


def test_forward_hooks_see_each_combine(make_gru: type[BinaryGRU]) -> None:
    monoid = make_gru(4)
    x = torch.randn(sum(SIZES), 4)
    calls: list[nn.Module] = []
    monoid.register_forward_hook(lambda module, inputs, output: calls.append(module))
    with torch.no_grad():
        fold(monoid, x, True)
    assert len(calls) == 5  # ⌈log₂ 17⌉ levels
