"""Obvious references: slow, looped, written without a look at the code they are held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lcm_graph.monoids import BinaryGRU, Monoid

Operator = Callable[[Tensor, Tensor], Tensor]


def pair_up(combine: Operator, elements: Sequence[Tensor]) -> Tensor:
    """Fold by pairing neighbours until one is left; a last odd one moves up unpaired."""
    if len(elements) == 1:
        return elements[0]
    pairs = [combine(elements[i], elements[i + 1]) for i in range(0, len(elements) - 1, 2)]
    return pair_up(combine, [*pairs, elements[-1]] if len(elements) % 2 else pairs)


def fold_sets(combine: Operator, x: Tensor, index: Tensor, dim_size: int, empty: Tensor) -> Tensor:
    """Fold each set by :func:`pair_up` in the order given; ``empty [1, F]`` without elements."""
    folds = []
    elements = x.split(1)
    for s in range(dim_size):
        rows = [elements[i] for i in (index == s).nonzero().flatten().tolist()]
        folds.append(pair_up(combine, rows) if rows else empty)
    return torch.cat(folds) if folds else x.new_zeros(0, x.size(1))


def gru_pair(gru: BinaryGRU) -> Operator:
    """The mean of both orders of a textbook GRU cell, with the parameters of ``gru``."""

    def cell(x: Tensor, h: Tensor) -> Tensor:
        i_r, i_z, i_n = (x @ gru.weight_ih.T + gru.bias_ih).chunk(3, dim=-1)
        h_r, h_z, h_n = (h @ gru.weight_hh.T + gru.bias_hh).chunk(3, dim=-1)
        reset, update = torch.sigmoid(i_r + h_r), torch.sigmoid(i_z + h_z)
        new = torch.tanh(i_n + reset * h_n)
        return (1 - update) * new + update * h

    return lambda a, b: (cell(a, b) + cell(b, a)) / 2


class GeneralGRU(BinaryGRU):
    """A Binary-GRU that is folded as any monoid is: a subclass inherits no kernel."""


class Ordered(Monoid):
    """``tanh(a A + b B)``: neither commutative nor associative, so any other tree or order shows.

    Zero is no identity of it; empty sets answer 0 all the same.
    """

    commutative = False
    associative = False

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.left = nn.Parameter(torch.randn(channels, channels) / channels**0.5)
        self.right = nn.Parameter(torch.randn(channels, channels) / channels**0.5)

    def combine(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.tanh(left @ self.left + right @ self.right)

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> Tensor:
        return torch.zeros(self._identity_shape(n), dtype=dtype, device=device)


def index_of(sizes: Sequence[int]) -> Tensor:
    """The set of each element, for sets of ``sizes`` laid end to end."""
    return torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes, dtype=torch.long))


def ptr_of(sizes: Sequence[int]) -> Tensor:
    """Where each set begins and the last one ends."""
    return torch.tensor([0, *sizes]).cumsum(0)


def error(actual: Tensor, expected: Tensor) -> float:
    """Largest deviation relative to the largest expected magnitude."""
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    if expected.numel() == 0:
        return 0.0
    difference = (actual.detach().double() - expected.detach().double()).abs().max()
    return float(difference / expected.detach().double().abs().max().clamp_min(1e-30))


def gradients(out: Tensor, inputs: Sequence[Tensor], seed: int = 0) -> list[Tensor]:
    """Gradients for a random cotangent; zeros where an input is not used."""
    generator = torch.Generator().manual_seed(seed)
    cotangent = torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out.dtype)
    return list(
        torch.autograd.grad(out, list(inputs), cotangent, allow_unused=True, materialize_grads=True)
    )
