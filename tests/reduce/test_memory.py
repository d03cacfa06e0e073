"""What a fold holds on to, and that nothing is padded."""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lcm_graph.monoids import BinaryGRU, Monoid, TopK
from lcm_graph.reduce import FoldPlan, segment_reduce
from tests.references import GeneralGRU


def saved_numbers(monoid: BinaryGRU, n: int, sets: int, recompute: bool) -> tuple[int, int]:
    """Floating-point numbers saved for the backward pass (each storage once), and those of x."""
    x = torch.randn(n, 16, requires_grad=True)
    plan = FoldPlan.from_index(torch.randint(0, sets, (n,)))
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point():
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        fold = segment_reduce(monoid, monoid.lift(x), plan=plan, recompute=recompute)
    assert fold.value.requires_grad
    parameters = {p.untyped_storage().data_ptr() for p in monoid.parameters()}
    return sum(size for at, size in kept.items() if at not in parameters), x.numel()


def test_saved_for_backward() -> None:
    """The input and the nodes; and the gates, where they are not to be computed again."""
    for make in (BinaryGRU, GeneralGRU):
        saved, inputs = saved_numbers(make(16), 4096, 16, recompute=True)
        assert saved <= 2.05 * inputs
    kept, _ = saved_numbers(BinaryGRU(16), 4096, 16, recompute=False)
    assert 8 * inputs < kept <= 10.05 * inputs
    by_autograd, _ = saved_numbers(GeneralGRU(16), 4096, 16, recompute=False)
    assert by_autograd > kept


class LargestTensor(TorchDispatchMode):
    """Notes the most numbers that any one operation answers with."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        self.numbers = max(self.numbers, *sizes, 0)
        return out


def test_nothing_is_padded() -> None:
    """A hub of 20,000 beside 1,000 singletons: padding would make 20 million rows of 21,000."""
    n, channels = 21_000, 4
    index = torch.cat([torch.arange(1000), torch.full((20_000,), 1000)])
    cases: tuple[tuple[Monoid, int], ...] = (
        (BinaryGRU(channels), 4 * channels),  # eight numbers of gates for each pair at most
        (GeneralGRU(channels), channels),
        (TopK(channels, k=3), 3 * channels),
    )
    for (monoid, numbers), recompute in product(cases, (True, False)):
        x = torch.randn(n, channels, requires_grad=True)
        with LargestTensor() as largest:
            out = monoid.lower(segment_reduce(monoid, monoid.lift(x), index, recompute=recompute))
            out.sum().backward()
        assert n * channels <= largest.numbers <= 2 * n * numbers
