"""Learned monoids that are exact by construction, against plain formulas, set by set."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lcm_graph.monoids import (
    AbelianGroup,
    Fishnets,
    FishnetsState,
    FourierProduct,
    GeneralizedMean,
    Lattice,
    Mean,
    Monoid,
    SpectrumState,
    Sum,
)
from lcm_graph.monoids.abelian_group import Coupling
from lcm_graph.reduce import FoldPlan, segment_reduce, tree_reduce
from tests.references import error, gradients, index_of

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
SIZES = (4, 0, 1, 2, 11)


def group(m: AbelianGroup, x: Tensor) -> Tensor:
    def nets(coupling: Coupling, given: Tensor) -> tuple[Tensor, Tensor]:
        gate = torch.sigmoid(given @ coupling.gate.T + coupling.gate_bias)
        hidden = torch.tanh(given @ coupling.value.T) * gate
        log = torch.tanh(hidden @ coupling.scale.T + coupling.scale_bias)
        return log.exp(), hidden @ coupling.shift.T

    couplings = [c for c in m.couplings if isinstance(c, Coupling)]
    half = x.size(1) // 2
    low, high = (x - m.origin)[:, :half], (x - m.origin)[:, half:]
    for i, coupling in enumerate(couplings):
        scale, shift = nets(coupling, high if i % 2 else low)
        low, high = (low * scale + shift, high) if i % 2 else (low, high * scale + shift)
    low, high = low.sum(0), high.sum(0)
    for i in reversed(range(len(couplings))):
        scale, shift = nets(couplings[i], high if i % 2 else low)
        low, high = ((low - shift) / scale, high) if i % 2 else (low, (high - shift) / scale)
    return torch.cat([low, high]) + m.origin


def mean(m: GeneralizedMean, x: Tensor) -> Tensor:
    if len(x) == 0:
        return x.new_zeros(x.size(1))
    y = x * m.log_scale.exp() + m.shift[0]
    for k in range(m.hidden):
        y = torch.sinh(torch.asinh(y) + torch.tanh(m.bend[k])) + m.shift[k + 1]
    y = y.sum(0) * len(x) ** (m.alpha - 1)
    for k in reversed(range(m.hidden)):
        y = torch.sinh(torch.asinh(y - m.shift[k + 1]) - torch.tanh(m.bend[k]))
    return (y - m.shift[0]) / m.log_scale.exp()


def transform(m: FourierProduct, x: Tensor) -> Tensor:
    """All coefficients of the signals of ``x``, by the formula."""
    time = torch.arange(m.size, dtype=x.dtype)
    angle = -2 * math.pi / m.size * time.outer(time)
    signal = x @ m.signal.weight.T + m.signal.bias
    return torch.complex(signal @ angle.cos(), signal @ angle.sin())


def read(m: FourierProduct, spectrum: Tensor) -> Tensor:
    time = torch.arange(m.size, dtype=m.out.weight.dtype)
    angle = 2 * math.pi / m.size * time.outer(time)
    signal = (spectrum @ torch.complex(angle.cos(), angle.sin())).real / m.size
    return signal @ m.out.weight.T + m.out.bias


def product(m: FourierProduct, x: Tensor) -> Tensor:
    if len(x) == 0:
        return x.new_zeros(x.size(1))
    whole = torch.ones(m.size, dtype=torch.promote_types(x.dtype, torch.complex64))
    for z in transform(m, x):
        whole = whole * z
    return read(m, whole * whole.abs() ** (1 / len(x) - 1))


def information(m: Fishnets, x: Tensor) -> Tensor:
    score = torch.zeros(m.dim, dtype=x.dtype)
    fisher = torch.eye(m.dim, dtype=x.dtype)
    for element in x:
        score = score + m.score.weight @ element + m.score.bias
        entries = iter(m.factor.weight @ element + m.factor.bias)
        rows = []
        for i in range(m.dim):
            row = [next(entries) for _ in range(i + 1)]
            row[i] = nn.functional.softplus(row[i])
            rows.append(torch.stack([*row, *[x.new_zeros(())] * (m.dim - i - 1)]))
        factor = torch.stack(rows)
        fisher = fisher + factor @ factor.T
    return m.out.weight @ torch.linalg.solve(fisher, score) + m.out.bias


def lattice(m: Lattice, x: Tensor) -> Tensor:
    out = []
    for i in range(x.size(1)):
        join = i < (x.size(1) + 1) // 2
        values = [
            (element + m.weight[i]).min() if join else (element + m.weight[i]).max()
            for element in x
        ]
        both = torch.stack(values) if values else x.new_zeros(1)
        out.append(both.max() if join else both.min())
    return torch.stack(out)


CASES: dict[str, tuple[Callable[[], Monoid], Callable[..., Tensor]]] = {
    "group-4": (lambda: AbelianGroup(4), group),
    "group-3": (lambda: AbelianGroup(3, layers=3, hidden=5), group),
    "group-1": (lambda: AbelianGroup(1), group),
    "mean-3": (lambda: GeneralizedMean(3), mean),
    "mean-1": (lambda: GeneralizedMean(1, hidden=1), mean),
    "product-3": (lambda: FourierProduct(3), product),
    "product-odd": (lambda: FourierProduct(2, size=5), product),
    "product-1": (lambda: FourierProduct(1, size=1), product),
    "fishnets-3": (lambda: Fishnets(3), information),
    "fishnets-10": (lambda: Fishnets(10), information),
    "fishnets-1": (lambda: Fishnets(2, dim=1), information),
    "lattice-4": (lambda: Lattice(4), lattice),
    "lattice-3": (lambda: Lattice(3), lattice),
    "lattice-1": (lambda: Lattice(1), lattice),
}
SMALL: dict[str, Callable[[], Monoid]] = {
    name: make for name, (make, _) in CASES.items() if name != "fishnets-10"
}


def moved(make: Callable[[], Monoid]) -> Monoid:
    """Parameters that are nowhere special."""
    monoid = make()
    with torch.no_grad():
        for parameter in monoid.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return monoid


def channels(monoid: Monoid) -> int:
    assert monoid.channels is not None
    return monoid.channels


def fold_all(monoid: Monoid, x: Tensor) -> Tensor:
    return monoid.lower(segment_reduce(monoid, monoid.lift(x)))


@pytest.mark.parametrize("fold", [segment_reduce, tree_reduce])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("make", "reference"), CASES.values(), ids=CASES.keys())
def test_values_and_gradients(make, reference, dtype, fold) -> None:
    monoid = moved(make).to(dtype)
    index = index_of(SIZES)[torch.randperm(sum(SIZES))]
    x = torch.randn(sum(SIZES), channels(monoid), dtype=dtype, requires_grad=True)
    out = monoid.lower(fold(monoid, monoid.lift(x), plan=FoldPlan.from_index(index, len(SIZES))))
    expected = torch.stack([reference(monoid, x[index == s]) for s in range(len(SIZES))])
    assert out.dtype == dtype
    assert error(out, expected) <= TOLERANCE[dtype]
    inputs = [x, *monoid.parameters()]
    for got, wanted in zip(gradients(out, inputs), gradients(expected, inputs), strict=True):
        assert error(got, wanted) <= 10 * TOLERANCE[dtype]


@pytest.mark.parametrize("make", SMALL.values(), ids=SMALL.keys())
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_everything_is_finite(make, scale: float) -> None:
    """Zeros, ties, single elements, empty sets, and elements far from the origin."""
    monoid = moved(make)
    x = scale * torch.randn(8, channels(monoid))
    x[3] = x[2]
    x.requires_grad_()
    index = index_of((0, 1, 3, 4, 0))
    for fold in (segment_reduce, tree_reduce):
        plan = FoldPlan.from_index(index, 5)
        out = monoid.lower(fold(monoid, monoid.lift(x), plan=plan))
        assert out.isfinite().all()
        for gradient in gradients(out, [x, *monoid.parameters()]):
            assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("make", SMALL.values(), ids=SMALL.keys())
def test_half_precision(make, dtype: torch.dtype) -> None:
    """A thousand elements lose no more than rounding parameters and elements costs."""
    monoid = make().to(dtype)
    x = torch.randn(1000, channels(monoid)).to(dtype).requires_grad_()
    out = fold_all(monoid, x)
    assert out.dtype == dtype
    expected = fold_all(copy.deepcopy(monoid).double(), x.detach().double())
    assert error(out, expected) <= 5e-2
    for gradient in gradients(out, [x, *monoid.parameters()]):
        assert gradient.dtype == dtype and gradient.isfinite().all()


@pytest.mark.parametrize("make", SMALL.values(), ids=SMALL.keys())
def test_autocast(make) -> None:
    monoid = make()
    x = torch.randn(sum(SIZES), channels(monoid), requires_grad=True)
    found = []
    for enabled in (True, False):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            states = segment_reduce(monoid, monoid.lift(x), index_of(SIZES))
            out = monoid.lower(states).float()
        found.append(out)
        for gradient in gradients(out, [x, *monoid.parameters()]):
            assert gradient.isfinite().all()
    assert error(*found) <= 0.1


@pytest.mark.parametrize(
    ("monoid", "text"),
    [
        (AbelianGroup(4), "AbelianGroup(4, layers=4, hidden=8)"),
        (GeneralizedMean(4), "GeneralizedMean(4, hidden=8)"),
        (FourierProduct(4), "FourierProduct(4, size=8)"),
        (Fishnets(12), "Fishnets(12, dim=8)"),
        (Fishnets(3), "Fishnets(3, dim=3)"),
        (Lattice(4), "Lattice(4)"),
    ],
    ids=repr,
)
def test_repr_shows_the_arguments(monoid: Monoid, text: str) -> None:
    assert repr(monoid) == text


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: AbelianGroup(0), "channels"),
        (lambda: AbelianGroup(None), "channels"),  # type: ignore[arg-type]
        (lambda: AbelianGroup(4, layers=0), "layers"),
        (lambda: AbelianGroup(4, hidden=-1), "hidden"),
        (lambda: GeneralizedMean(2.0), "channels"),  # type: ignore[arg-type]
        (lambda: GeneralizedMean(4, hidden=0), "hidden"),
        (lambda: FourierProduct(True), "channels"),
        (lambda: FourierProduct(4, size=0), "size"),
        (lambda: Fishnets(-3), "channels"),
        (lambda: Fishnets(4, dim=0), "dim"),
        (lambda: Lattice(0), "channels"),
    ],
)
def test_bad_arguments(make: Callable[[], Monoid], name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' must be a positive integer"):
        make()


@pytest.mark.parametrize("make", SMALL.values(), ids=SMALL.keys())
def test_bad_elements(make) -> None:
    monoid = make()
    with pytest.raises(ValueError, match=r"takes elements \[n, "):
        monoid.lift(torch.randn(5, channels(monoid) + 1))
    with pytest.raises(ValueError, match="floating-point"):
        monoid.lift(torch.ones(5, channels(monoid), dtype=torch.long))


# The group --------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2, 5])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_group_of_one_is_the_element(size: int, layers: int, scale: float) -> None:
    for dtype, tolerance in TOLERANCE.items():
        monoid = moved(lambda: AbelianGroup(size, layers)).to(dtype)
        x = scale * torch.randn(9, size, dtype=dtype)
        assert error(monoid.lower(monoid.lift(x)), x) <= tolerance


def test_group_laws_of_elements() -> None:
    """They hold of ``∘`` on elements, too, not only of states."""
    monoid = moved(lambda: AbelianGroup(5)).double()

    def op(a: Tensor, b: Tensor) -> Tensor:
        return monoid.lower(monoid.combine(monoid.lift(a), monoid.lift(b)))

    a, b, c = torch.randn(3, 7, 5, dtype=torch.float64)
    origin = monoid.get_parameter("origin").expand(7, 5)
    inverse = monoid.lower(monoid.inverse(monoid.lift(a)))
    assert error(op(op(a, b), c), op(a, op(b, c))) <= 1e-12
    assert error(op(a, b), op(b, a)) == 0
    assert error(op(a, origin), a) <= 1e-12
    assert error(op(a, inverse), origin) <= 1e-12
    assert error(op(a, b), a + b - origin) > 0.1, "it is only addition"


def test_group_gives_up_an_element() -> None:
    monoid = moved(lambda: AbelianGroup(3)).double()
    x = torch.randn(6, 3, dtype=torch.float64)
    states = monoid.lift(x)
    without = monoid.combine(segment_reduce(monoid, states), monoid.inverse(states[2:3]))
    assert error(monoid.lower(without), fold_all(monoid, x[[0, 1, 3, 4, 5]])) <= 1e-12


def test_group_origin_is_the_empty_set() -> None:
    monoid = moved(lambda: AbelianGroup(4))
    none = torch.zeros(0, dtype=torch.long)
    empty = segment_reduce(monoid, monoid.lift(torch.zeros(0, 4)), none, dim_size=3)
    origin = monoid.get_parameter("origin")
    assert torch.equal(monoid.lower(empty), origin.expand(3, 4))
    assert torch.equal(monoid.lift(origin.detach()[None]), torch.zeros(1, 4))


# The generalized mean ---------------------------------------------------------------------------


@pytest.mark.parametrize(("alpha", "plain"), [(1.0, Sum(3)), (0.0, Mean(3))])
def test_mean_and_sum_are_special_cases(alpha: float, plain: Monoid) -> None:
    monoid = GeneralizedMean(3).double()
    for parameter in monoid.parameters():
        nn.init.zeros_(parameter)
    nn.init.constant_(monoid.alpha, alpha)
    x = torch.randn(sum(SIZES), 3, dtype=torch.float64)
    weight = torch.rand(sum(SIZES), dtype=torch.float64)
    index = index_of(SIZES)
    out, expected = (
        m.lower(segment_reduce(m, m.weigh(m.lift(x), weight), index)) for m in (monoid, plain)
    )
    assert torch.equal(monoid.function(x), x)
    assert error(out, expected) <= 1e-12


def test_function_increases_and_is_inverted() -> None:
    monoid = GeneralizedMean(4).double()
    for parameter in monoid.parameters():
        nn.init.normal_(parameter, std=0.7)
    for reach in (3.0, 1e4):
        x = torch.linspace(-reach, reach, 1001, dtype=torch.float64)[:, None].expand(-1, 4)
        y = monoid.function(x)
        assert (y.diff(dim=0) > 0).all()
        assert error(monoid.inverse_function(y), x) <= 1e-10


def test_function_is_close_to_the_identity_at_first() -> None:
    x = torch.linspace(-2, 2, 9)[:, None].expand(-1, 5)
    for hidden in (1, 2, 8):
        monoid = GeneralizedMean(5, hidden)
        with torch.no_grad():
            monoid.bend.zero_()
            assert error(monoid.function(x), x) <= 1e-6


def test_mean_counts_in_half_precision() -> None:
    monoid = GeneralizedMean(1)
    for parameter in monoid.parameters():
        nn.init.zeros_(parameter)
    for dtype in (torch.bfloat16, torch.float16):
        ones = torch.ones(1000, 1, dtype=dtype)
        monoid = monoid.to(dtype)
        for alpha in (0.0, 1.0):
            nn.init.constant_(monoid.alpha, alpha)
            assert fold_all(monoid, ones).item() == (1000 if alpha else 1)


# The product of spectra -------------------------------------------------------------------------


@pytest.mark.parametrize("fold", [segment_reduce, tree_reduce])
def test_product_of_many(fold) -> None:
    monoid = moved(lambda: FourierProduct(2, size=6)).double()
    n = 100_000
    x = torch.randn(n, 2, dtype=torch.float64)
    with torch.no_grad():
        plan = FoldPlan.from_index(torch.zeros(n, dtype=torch.long))
        out = monoid.lower(fold(monoid, monoid.lift(x), plan=plan))
        assert isinstance(monoid, FourierProduct)
        z = transform(monoid, x)
        whole = (z / z.abs()).prod(0) * z.abs().log().mean(0).exp()
        assert error(out[0], read(monoid, whole)) <= 1e-8


@pytest.mark.parametrize("fold", [segment_reduce, tree_reduce])
def test_product_of_many_in_single_precision(fold) -> None:
    """However many turns they make, angles lose nothing by being added."""
    monoid = moved(lambda: FourierProduct(2, size=6))
    n = 100_000
    states = monoid.lift(torch.randn(n, 2).add(1))
    with torch.no_grad():
        plan = FoldPlan.from_index(torch.zeros(n, dtype=torch.long))
        out = monoid.lower(fold(monoid, states, plan=plan))
        exact = SpectrumState(*(part.double().sum(0, keepdim=True) for part in states))
        expected = copy.deepcopy(monoid).double().lower(exact)
        assert error(out, expected) <= 1e-3


def test_product_is_a_circular_convolution() -> None:
    """Of two elements, up to the magnitude."""
    monoid = moved(lambda: FourierProduct(3, size=5)).double()
    assert isinstance(monoid, FourierProduct)
    x = torch.randn(2, 3, dtype=torch.float64)
    a, b = x @ monoid.signal.weight.T + monoid.signal.bias
    convolved = torch.stack([(a * b.flip(0).roll(i + 1)).sum() for i in range(5)])
    state = segment_reduce(monoid, monoid.lift(x))
    magnitude, angle = state.log.exp(), 2 * math.pi * state.turns
    got = torch.fft.irfft(torch.polar(magnitude, angle), n=5)
    assert error(got[0], convolved) <= 1e-12


def test_product_survives_coefficients_of_zero() -> None:
    monoid = FourierProduct(2)
    for parameter in monoid.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(4, 2, requires_grad=True)
    out = fold_all(monoid, x)
    assert out.isfinite().all()
    assert all(g.isfinite().all() for g in gradients(out, [x, *monoid.parameters()]))


# Fishnets ---------------------------------------------------------------------------------------


def test_fishnets_of_the_empty_set_is_the_bias() -> None:
    monoid = moved(lambda: Fishnets(4))
    assert isinstance(monoid, Fishnets)
    index = torch.tensor([1, 1])
    out = monoid.lower(segment_reduce(monoid, monoid.lift(torch.randn(2, 4)), index, dim_size=3))
    assert torch.equal(out[[0, 2]], monoid.out.bias.expand(2, 4))


def test_fishnets_leaves_other_sets_alone() -> None:
    monoid = moved(lambda: Fishnets(4))
    x = torch.randn(9, 4)
    expected = monoid.lower(segment_reduce(monoid, monoid.lift(x), index_of((3, 3, 3))))
    for spoiler in (torch.nan, torch.inf):
        spoilt = x.clone()
        spoilt[4] = spoiler
        out = monoid.lower(segment_reduce(monoid, monoid.lift(spoilt), index_of((3, 3, 3))))
        assert out[1].isnan().all()
        assert error(out[[0, 2]], expected[[0, 2]]) <= 1e-6


@pytest.mark.parametrize("scale", [1e2, 1e4, 1e8])
def test_fishnets_survives_rounding(scale: float) -> None:
    """Matrices far larger than the prior, and of any condition, can still be factorised."""
    monoid = moved(lambda: Fishnets(8))
    x = scale * torch.randn(500, 8)
    index = torch.arange(500) // 2
    assert monoid.lower(segment_reduce(monoid, monoid.lift(x), index)).isfinite().all()


def test_fishnets_gives_up_an_element() -> None:
    monoid = moved(lambda: Fishnets(3)).double()
    x = torch.randn(6, 3, dtype=torch.float64)
    last = monoid.inverse(monoid.lift(x[5:]))
    without = monoid.combine(segment_reduce(monoid, monoid.lift(x)), last)
    assert error(monoid.lower(without), fold_all(monoid, x[:5])) <= 1e-12


def test_fishnets_weighs_by_information() -> None:
    """Of scores that are F (estimate), the answer nears the estimates' mean weighed by F."""
    monoid = Fishnets(1, dim=1).double()
    nn.init.ones_(monoid.out.weight)
    nn.init.zeros_(monoid.out.bias)
    fisher = torch.tensor([[4e9], [1e9]], dtype=torch.float64)
    estimate = torch.tensor([[3.0], [8.0]], dtype=torch.float64)
    state = segment_reduce(monoid, FishnetsState(fisher * estimate, fisher))
    assert monoid.lower(state).item() == pytest.approx(4.0, rel=1e-8)


# The lattice ------------------------------------------------------------------------------------


def test_lattice_counts_an_element_once() -> None:
    monoid = Lattice(5)
    x = torch.randn(6, 5)
    assert torch.equal(fold_all(monoid, x), fold_all(monoid, torch.cat([x, x[2:4], x])))


def test_lattice_joins_meets_and_meets_joins() -> None:
    """Some element has all features above the threshold; every element has one."""
    monoid = Lattice(2)
    nn.init.constant_(monoid.weight, -1.0)
    both_in_one = torch.tensor([[2.0, 3.0], [0.0, 0.0]])
    one_in_each = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    assert fold_all(monoid, both_in_one).tolist() == [[1.0, -1.0]]
    assert fold_all(monoid, one_in_each).tolist() == [[-1.0, 1.0]]


def test_lattice_shares_the_gradient_of_tied_elements() -> None:
    monoid = Lattice(2)
    x = torch.tensor([[1.0, 2.0]]).repeat(4, 1).requires_grad_()
    for fold in (segment_reduce, tree_reduce):
        plan = FoldPlan.from_index(torch.zeros(4, dtype=torch.long))
        out = monoid.lower(fold(monoid, monoid.lift(x), plan=plan))
        for i in range(2):
            (gradient,) = torch.autograd.grad(out[0, i], x, retain_graph=True)
            assert gradient.sum() == 1
            assert (gradient.sum(1) == 0.25).all()


def test_lattice_increases() -> None:
    monoid = Lattice(6)
    x = torch.randn(5, 6)
    assert (fold_all(monoid, x + torch.rand(5, 6)) >= fold_all(monoid, x)).all()
    assert torch.allclose(fold_all(monoid, x + 3), fold_all(monoid, x) + 3)
