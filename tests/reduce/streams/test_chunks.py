"""Gradients through all chunks, in bounded memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lcm_graph.monoids import BinaryGRU, Lifted, Monoid, Product, Sum
from lcm_graph.reduce import fold_chunks, segment_reduce
from tests.references import Ordered, error

D, SETS = 4, 5
SIZES = (7, 0, 16, 9, 3)


class Encoded:
    """Chunks that an encoder computes each time that they are asked for."""

    def __init__(self, sizes: tuple[int, ...] = SIZES) -> None:
        self.encoder = nn.Sequential(nn.Linear(2, D), nn.Tanh()).double()
        self.raw = [torch.randn(n, 2, dtype=torch.float64) for n in sizes]
        self.index = [torch.randint(0, SETS - 1, (n,)) for n in sizes]
        self.loaded = 0

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        self.loaded += 1
        return self.encoder(self.raw[number]), self.index[number]

    def fold(self, monoid: Monoid) -> Tensor:
        """All at once."""
        states = monoid.lift(self.encoder(torch.cat(self.raw)))
        return monoid.lower(segment_reduce(monoid, states, torch.cat(self.index), dim_size=SETS))


MONOIDS = {
    "ordered": lambda: Ordered(D),
    "gru": lambda: BinaryGRU(D),
    "product": lambda: Product(Sum(D), Lifted(nn.Linear(D, D), BinaryGRU(D))),
}


@pytest.fixture(params=MONOIDS)
def monoid(request: pytest.FixtureRequest) -> Monoid:
    return MONOIDS[request.param]().double()


def gradients(out: Tensor, cotangent: Tensor, *modules: nn.Module) -> list[Tensor]:
    inputs = [weight for module in modules for weight in module.parameters()]
    found = torch.autograd.grad(out, inputs, cotangent, allow_unused=True)
    return [
        torch.zeros_like(weight) if gradient is None else gradient
        for weight, gradient in zip(inputs, found, strict=True)
    ]


def test_full_gradient(monoid: Monoid) -> None:
    chunks = Encoded()
    expected = chunks.fold(monoid)
    cotangent = torch.randn_like(expected)
    found = fold_chunks(monoid, chunks, dim_size=SETS)
    assert error(found, expected) <= 1e-12
    for one, other in zip(
        gradients(found, cotangent, monoid, chunks.encoder),
        gradients(expected, cotangent, monoid, chunks.encoder),
        strict=True,
    ):
        assert error(one, other) <= 1e-12
    assert chunks.loaded == 2 * len(chunks) - 1  # the empty one has no gradient


@pytest.mark.parametrize("samples", [1, 4])
def test_sampled_gradients_are_unbiased(monoid: Monoid, samples: int) -> None:
    """Their mean over all that can be drawn is the full gradient."""
    chunks = Encoded()
    expected = chunks.fold(monoid)
    cotangent = torch.randn_like(expected)
    target = gradients(expected, cotangent, monoid, chunks.encoder)
    by_draw: dict[tuple[int, ...], list[Tensor]] = {}
    seed = 0
    while len(by_draw) < len(chunks):  # five draws of one, and five of all but one
        drawn = torch.randperm(len(chunks), generator=torch.Generator().manual_seed(seed))
        key = tuple(sorted(drawn[:samples].tolist()))
        if key not in by_draw:
            generator = torch.Generator().manual_seed(seed)
            found = fold_chunks(
                monoid,
                chunks,
                gradient="sampled",
                samples=samples,
                generator=generator,
                dim_size=SETS,
            )
            assert error(found, expected) <= 1e-12
            by_draw[key] = gradients(found, cotangent, monoid, chunks.encoder)
        seed += 1
    for place, full in enumerate(target):
        mean = torch.stack([found[place] for found in by_draw.values()]).mean(0)
        assert error(mean, full) <= 1e-12


def test_without_gradients() -> None:
    chunks, monoid = Encoded(), BinaryGRU(D).double()
    with torch.no_grad():
        found = fold_chunks(monoid, chunks, dim_size=SETS)
        assert error(found, chunks.fold(monoid)) <= 1e-12
    assert chunks.loaded == len(chunks) and not found.requires_grad


def test_random_encoders_are_replayed() -> None:
    """A dropout in the encoder is the same in the backward pass as in the forward pass."""
    chunks = Encoded((6, 5))
    chunks.encoder.append(nn.Dropout(0.5))
    monoid = Ordered(D).double()
    state = torch.get_rng_state()
    found = gradients(fold_chunks(monoid, chunks), torch.ones(SETS - 1, D), monoid)
    torch.set_rng_state(state)
    kept = [chunks[number] for number in range(2)]
    expected = gradients(fold_chunks(monoid, kept), torch.ones(SETS - 1, D), monoid)
    for one, other in zip(found, expected, strict=True):
        assert error(one, other) <= 1e-12


def test_errors() -> None:
    chunks = [torch.ones(2, D)]
    with pytest.raises(ValueError, match="one of full, sampled"):
        fold_chunks(Sum(D), chunks, gradient="none")
    with pytest.raises(ValueError, match="at least one"):
        fold_chunks(Sum(D), [])
    with pytest.raises(ValueError, match="from 1 to the number of chunks, 1"):
        fold_chunks(Sum(D), chunks, gradient="sampled", samples=2)
