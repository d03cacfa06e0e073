"""Gradients through all chunks, in bounded memory."""

from __future__ import annotations

from typing import Any

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


def test_sampled_gradients_of_chunks_with_a_graph_of_their_own() -> None:
    """Chunks that are not drawn are constants, also if they were computed before."""
    monoid = BinaryGRU(D).double()
    x = torch.randn(12, D, dtype=torch.float64, requires_grad=True)
    chunks = list(x.split(4))
    (expected,) = torch.autograd.grad(fold_chunks(monoid, chunks).sum(), x, retain_graph=True)
    by_draw: dict[int, Tensor] = {}
    for seed in range(50):
        drawn = int(torch.randperm(3, generator=torch.Generator().manual_seed(seed))[0])
        generator = torch.Generator().manual_seed(seed)
        found = fold_chunks(monoid, chunks, gradient="sampled", generator=generator)
        (by_draw[drawn],) = torch.autograd.grad(found.sum(), x, retain_graph=True)
    assert len(by_draw) == 3
    assert error(torch.stack(list(by_draw.values())).mean(0), expected) <= 1e-12


def test_parameters_changed_before_the_backward_pass() -> None:
    monoid = BinaryGRU(D)
    out = fold_chunks(monoid, list(torch.randn(12, D).split(4)))
    with torch.no_grad():
        monoid.weight_ih.mul_(1.5)
    with pytest.raises(RuntimeError, match="changed in place between the forward and the backward"):
        out.sum().backward()


def test_chunks_of_another_shape_in_the_backward_pass() -> None:
    sizes = iter((3, 3, 2, 2))

    class Changing:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, number: int) -> Tensor:
            return torch.ones(next(sizes), D)

    out = fold_chunks(BinaryGRU(D), Changing())
    with pytest.raises(ValueError, match="'chunks' must give the same each time"):
        out.sum().backward()


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
    wrong: list[tuple[Any, str]] = [
        (iter(chunks), "'chunks' must have a length"),
        (torch.ones(4, D), "'chunks' must be a list of chunks"),
        ([{"x": 1}], "a chunk must be elements"),
    ]
    for given, message in wrong:
        with pytest.raises(TypeError, match=message):
            fold_chunks(Sum(D), given)
    with pytest.raises(TypeError, match=r"'generator' must be a torch.Generator"):
        fold_chunks(Sum(D), chunks, gradient="sampled", generator=3)  # type: ignore[arg-type]
