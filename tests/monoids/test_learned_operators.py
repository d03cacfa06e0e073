"""Learned operators against plain formulas: pairs, folds, and what each promises beside."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from lcm_graph.monoids import (
    Adjoined,
    BinaryGRU,
    BinaryLSTM,
    GatedLattice,
    LearnedMonoid,
    Max,
    Min,
    Normalized,
    PairAttention,
    SlotSelection,
    Sum,
    Symmetrized,
)
from lcm_graph.reduce import FoldPlan, segment_reduce, tree_reduce
from tests.references import Operator, error, gradients, gru_pair, index_of, pair_up

SIZES = (4, 0, 1, 2, 11)
TOLERANCE = 1e-10  # float64


class Reference(NamedTuple):
    """What a monoid should do, from its parameters."""

    leaf: Callable[[Tensor], Tensor]
    pair: Operator
    read: Callable[[Tensor], Tensor]


def same(x: Tensor) -> Tensor:
    return x


def lstm(m: BinaryLSTM) -> Reference:
    """Tai et al.'s equations 2-8, gate by gate; states are ``h`` and ``c`` side by side."""
    w_i, w_o, w_u = m.weight_leaf.chunk(3)
    u_i, u_o, u_u = m.weight_sum.chunk(3)
    b_i, b_o, b_u = m.bias.chunk(3)

    def node(i: Tensor, o: Tensor, u: Tensor, kept: list[Tensor]) -> Tensor:
        c = torch.sigmoid(i + b_i) * torch.tanh(u + b_u) + sum(kept)
        return torch.cat([torch.sigmoid(o + b_o) * torch.tanh(c), c], dim=-1)

    def pair(a: Tensor, b: Tensor) -> Tensor:
        children = [x.split(m.bias_forget.numel(), dim=-1) for x in (a, b)]
        h = torch.stack([h for h, _ in children]).sum(0)
        kept = [torch.sigmoid(h @ m.weight_forget.T + m.bias_forget) * c for h, c in children]
        return node(h @ u_i.T, h @ u_o.T, h @ u_u.T, kept)

    return Reference(
        lambda x: node(x @ w_i.T, x @ w_o.T, x @ w_u.T, []),
        pair,
        lambda state: state[:, : m.bias_forget.numel()],
    )


def lattice(m: GatedLattice) -> Reference:
    def pair(a: Tensor, b: Tensor) -> Tensor:
        both = torch.cat([a + b, (a - b).abs()], dim=-1)
        z = torch.sigmoid(both @ m.gate.weight.T + m.gate.bias)
        out = z * torch.maximum(a, b) + (1 - z) * torch.minimum(a, b)
        if m.correction is None:
            return out
        return out + m.scale * torch.tanh(both @ m.correction.weight.T + m.correction.bias)

    return Reference(same, pair, same)


def attention(m: PairAttention) -> Reference:
    def pair(a: Tensor, b: Tensor) -> Tensor:
        width = a.size(1) // m.heads
        query = ((a + b) @ m.query.weight.T + m.query.bias).split(width, dim=-1)
        keys = [(x @ m.key.weight.T).split(width, dim=-1) for x in (a, b)]
        values = [(x @ m.value.weight.T + m.value.bias).split(width, dim=-1) for x in (a, b)]
        heads = []
        for i in range(m.heads):
            scores = torch.stack([(query[i] * key[i]).sum(-1) for key in keys]) / width**0.5
            share = scores.softmax(0)
            heads.append(share[0, :, None] * values[0][i] + share[1, :, None] * values[1][i])
        y = unit((a + b) / 2 + torch.cat(heads, dim=-1)) * m.gain
        hidden = nn.functional.gelu(y @ m.hidden.weight.T + m.hidden.bias)
        return y + hidden @ m.out.weight.T + m.out.bias

    return Reference(same, pair, same)


def selection(m: SlotSelection) -> Reference:
    def scores(own: Tensor, other: Tensor) -> Tensor:
        both = torch.cat([own, other], dim=-1)
        hidden = nn.functional.gelu(both @ m.hidden.weight.T + m.hidden.bias)
        return m.log_sharpness.exp() * (hidden @ m.score.weight.T + m.score.bias)

    def pair(a: Tensor, b: Tensor) -> Tensor:
        width = a.size(1) // m.slots
        vectors = torch.stack([*a.split(width, dim=-1), *b.split(width, dim=-1)], dim=1)
        of_a, of_b = scores(a, b).split(m.slots, dim=-1), scores(b, a).split(m.slots, dim=-1)
        picked = []
        for i in range(m.slots):
            share = torch.cat([of_a[i], of_b[i]], dim=-1).softmax(-1)
            picked.append((share.unsqueeze(-1) * vectors).sum(1))
        return torch.cat(picked, dim=-1)

    return Reference(same, pair, same)


def normalized(m: Normalized, inner: Reference) -> Reference:
    def rescale(x: Tensor) -> Tensor:
        return unit(x) if m.gain is None else unit(x) * m.gain

    return Reference(
        lambda x: rescale(inner.leaf(x)), lambda a, b: rescale(inner.pair(a, b)), inner.read
    )


def unit(x: Tensor) -> Tensor:
    return x / rms(x).unsqueeze(-1)


def rms(x: Tensor) -> Tensor:
    return x.square().mean(-1).sqrt()


def reference(monoid: LearnedMonoid) -> Reference:
    if isinstance(monoid, BinaryLSTM):
        return lstm(monoid)
    if isinstance(monoid, GatedLattice):
        return lattice(monoid)
    if isinstance(monoid, PairAttention):
        return attention(monoid)
    if isinstance(monoid, SlotSelection):
        return selection(monoid)
    if isinstance(monoid, Normalized):
        return normalized(monoid, reference(monoid.monoid))
    assert isinstance(monoid, BinaryGRU)
    return Reference(same, gru_pair(monoid), same)


MAKERS: dict[str, Callable[[], LearnedMonoid]] = {
    "lstm": lambda: BinaryLSTM(5),
    "lattice": lambda: GatedLattice(5),
    "lattice-correction": lambda: GatedLattice(5, correction=True),
    "attention": lambda: PairAttention(6, heads=3),
    "attention-hidden": lambda: PairAttention(8, hidden=3),
    "selection": lambda: SlotSelection(6, slots=3),
    "selection-hidden": lambda: SlotSelection(4, slots=2, hidden=3),
    "normalized": lambda: Normalized(BinaryGRU(5)),
    "normalized-gain": lambda: Normalized(BinaryLSTM(4), gain=True),
    "normalized-lattice": lambda: Normalized(GatedLattice(4, correction=True)),
}


def random(name: str) -> LearnedMonoid:
    """A monoid none of whose parameters is 0 or 1, in float64."""
    monoid = MAKERS[name]().double()
    with torch.no_grad():
        for parameter in monoid.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return monoid


def elements(monoid: LearnedMonoid, n: int) -> Tensor:
    assert monoid.channels is not None
    return torch.randn(n, monoid.channels, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("name", MAKERS)
def test_pair(name: str) -> None:
    monoid = random(name)
    a, b = (torch.randn_like(monoid.identity(9).value).requires_grad_() for _ in range(2))
    out, expected = monoid.operator(a, b), reference(monoid).pair(a, b)
    assert error(out, expected) <= TOLERANCE
    inputs = [a, b, *monoid.parameters()]
    for got, wanted in zip(gradients(out, inputs), gradients(expected, inputs), strict=True):
        assert error(got, wanted) <= TOLERANCE


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", MAKERS)
def test_fold(name: str, recompute: bool) -> None:
    monoid = random(name)
    index = index_of(SIZES)[torch.randperm(sum(SIZES))]
    x = elements(monoid, sum(SIZES))
    plan = FoldPlan.from_index(index, len(SIZES))
    out = monoid.lower(segment_reduce(monoid, monoid.lift(x), plan=plan, recompute=recompute))
    leaf, pair, read = reference(monoid)
    folds = [pair_up(pair, leaf(x[index == s]).split(1)) for s, n in enumerate(SIZES) if n]
    answers = iter(folds)
    expected = torch.cat([read(next(answers)) if n else monoid.empty[None] for n in SIZES])
    assert error(out, expected) <= TOLERANCE
    inputs = [x, *monoid.parameters()]
    for got, wanted in zip(gradients(out, inputs), gradients(expected, inputs), strict=True):
        assert error(got, wanted) <= 10 * TOLERANCE


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", MAKERS)
def test_commutes_to_the_last_bit(name: str, dtype: torch.dtype) -> None:
    monoid = random(name).to(dtype)
    a, b = (torch.randn_like(monoid.identity(37).value) for _ in range(2))
    assert torch.equal(monoid.operator(a, b), monoid.operator(b, a))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", MAKERS)
def test_finite_at_zeros_and_ties(name: str, dtype: torch.dtype) -> None:
    """Also where parameters are what they begin with, and where they are all 0."""
    for zero in (False, True):
        monoid = MAKERS[name]().to(dtype)
        if zero:
            with torch.no_grad():
                for parameter in monoid.parameters():
                    parameter.zero_()
        x = elements(monoid, 8).detach().to(dtype)
        x[:4] = 0
        x[5] = x[4]
        x[7] *= 1e-30
        x.requires_grad_()
        out = monoid.lower(segment_reduce(monoid, monoid.lift(x), index_of((2, 0, 4, 2))))
        assert out.dtype == dtype and out.isfinite().all()
        for grad in gradients(out, [x, *monoid.parameters()]):
            assert grad.isfinite().all()


@pytest.mark.parametrize("name", MAKERS)
def test_compiled(name: str) -> None:
    torch._dynamo.reset()
    monoid = random(name)
    x = elements(monoid, sum(SIZES))
    plan = FoldPlan.from_index(index_of(SIZES), len(SIZES))

    def fold(x: Tensor) -> Tensor:
        return monoid.lower(segment_reduce(monoid, monoid.lift(x), plan=plan))

    expected = fold(x)
    out = torch.compile(fold, backend="aot_eager", fullgraph=True)(x)
    assert error(out, expected) <= TOLERANCE
    inputs = [x, *monoid.parameters()]
    for got, wanted in zip(gradients(out, inputs), gradients(expected, inputs), strict=True):
        assert error(got, wanted) <= TOLERANCE


@pytest.mark.parametrize("name", MAKERS)
def test_autocast(name: str) -> None:
    monoid = random(name).float()
    x = elements(monoid, sum(SIZES)).detach().float().requires_grad_()
    plan = FoldPlan.from_index(index_of(SIZES), len(SIZES))
    for recompute in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            states = monoid.lift(x)
            out = monoid.lower(segment_reduce(monoid, states, plan=plan, recompute=recompute))
        assert states.value.dtype == out.dtype == torch.float32
        assert all(g.isfinite().all() for g in gradients(out, [x, *monoid.parameters()]))


def test_lstm_reads_h_and_answers_for_absence() -> None:
    monoid = BinaryLSTM(3)
    assert monoid.identity(2).value.shape == (2, 6) and monoid.out_channels == 3
    assert monoid.lower(monoid.identity(2)).tolist() == [[0.0] * 3] * 2
    states = monoid.lift(torch.randn(4, 3))
    placed = monoid.place(states, torch.tensor([5, 0, 2, 1]), 6)
    assert torch.equal(monoid.lower(placed)[[5, 0, 2, 1]], monoid.lower(states))
    assert monoid.lower(placed)[[3, 4]].eq(0).all()


def test_lattice_reaches_both_extremes() -> None:
    x = torch.randn(17, 3)
    for bias, extremum in ((1e4, Max(3)), (-1e4, Min(3))):
        monoid = GatedLattice(3)
        nn.init.constant_(monoid.gate.bias, bias)
        out = monoid.lower(segment_reduce(monoid, monoid.lift(x)))
        assert torch.equal(out, extremum.lower(segment_reduce(extremum, extremum.lift(x))))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_lattice_is_idempotent_to_the_last_bit(dtype: torch.dtype) -> None:
    monoid = GatedLattice(16).to(dtype)
    assert monoid.idempotent and not GatedLattice(16, correction=True).idempotent
    a = (torch.randn(1000, 16) * torch.logspace(-30, 30, 1000)[:, None]).to(dtype)
    assert torch.equal(monoid.operator(a, a), a)


def test_lattice_keeps_within_its_elements() -> None:
    x = torch.randn(1000, 4, dtype=torch.float64)
    monoid = GatedLattice(4).double()
    out = monoid.lower(segment_reduce(monoid, monoid.lift(x)))[0]
    assert (x.amin(0) <= out).all() and (out <= x.amax(0)).all()


def test_lattice_correction_starts_at_nothing() -> None:
    a, b = torch.randn(2, 9, 4)
    monoid, plain = GatedLattice(4, correction=True), GatedLattice(4)
    plain.gate.load_state_dict(monoid.gate.state_dict())
    assert torch.equal(monoid.operator(a, b), plain.operator(a, b))


def test_selection_hands_on_slots_as_they_came() -> None:
    """Scores that grow with the first number pick the largest, whole, through 10 levels."""
    monoid = SlotSelection(3, slots=1, hidden=1)
    with torch.no_grad():
        monoid.hidden.weight.copy_(torch.tensor([[1.0, 0, 0, 0, 0, 0]]))
        monoid.hidden.bias.fill_(10)  # where gelu is the identity
        monoid.score.weight.fill_(100)
    x = torch.randn(1000, 3)
    x[:, 0] = torch.randperm(1000)
    out = monoid.lower(segment_reduce(monoid, monoid.lift(x)))
    assert torch.equal(out[0], x[x[:, 0] == 999][0])


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_selection_of_equals_is_these_at_any_depth(dtype: torch.dtype, autocast: bool) -> None:
    monoid = SlotSelection(8, slots=4).to(dtype)
    x = torch.randn(2, dtype=dtype).repeat(4096, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        out = monoid.lower(segment_reduce(monoid, monoid.lift(x)))
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]
    assert out.dtype == dtype and error(out[0], x[0]) < tolerance


def test_selection_keeps_within_its_elements() -> None:
    x = 10 + torch.rand(1000, 8, dtype=torch.float64)
    monoid = SlotSelection(8, slots=2).double()
    out = monoid.lower(segment_reduce(monoid, monoid.lift(x))).view(2, 4)
    slots = x.view(2000, 4)
    assert (slots.amin(0) - 1e-9 <= out).all() and (out <= slots.amax(0) + 1e-9).all()


@pytest.mark.parametrize("monoid", [BinaryGRU(8), BinaryLSTM(8), PairAttention(8)], ids=repr)
def test_normalized_states_have_one_scale(monoid: LearnedMonoid) -> None:
    wrapped = Normalized(copy.deepcopy(monoid)).double()
    states = wrapped.lift(100 * torch.randn(7, 8, dtype=torch.float64))
    for state in (states, wrapped.combine(states, states)):
        assert (rms(state.value) - 1).abs().max() <= TOLERANCE


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_normalized_at_depth_17(dtype: torch.dtype) -> None:
    monoid = Normalized(BinaryGRU(8)).to(dtype)
    x = torch.randn(100_000, 8, dtype=dtype, requires_grad=True)
    plan = FoldPlan.from_index(torch.zeros(100_000, dtype=torch.long))
    state = tree_reduce(monoid, monoid.lift(x), plan)
    assert (rms(state.value) - 1).abs().max() <= 1e-6
    for grad in gradients(monoid.lower(state), [x, *monoid.parameters()]):
        assert grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16], ids=str)
def test_normalized_keeps_zeros(dtype: torch.dtype) -> None:
    monoid = Normalized(Symmetrized(torch.mul, 4)).to(dtype)
    x = torch.zeros(3, 4, dtype=dtype)
    x[1] = 1e-5
    x[2] = 1000
    x.requires_grad_()
    value = monoid.lift(x).value
    assert value[0].eq(0).all() and error(value[1], x[1] * 1000) <= 1e-3
    assert error(value[2], torch.ones(4)) <= 1e-3
    (grad,) = torch.autograd.grad(value.sum(), x)
    assert grad.isfinite().all() and error(grad[0], torch.full((4,), 1000.0)) <= 1e-3
    assert monoid.operator(x, x)[0].eq(0).all()


def test_normalized_has_one_empty() -> None:
    monoid = Normalized(BinaryGRU(2))
    assert all(name.startswith("monoid.") for name in monoid.state_dict())
    nn.init.constant_(monoid.empty, 3.0)
    out = monoid.lower(segment_reduce(monoid, monoid.lift(torch.randn(1, 2)), torch.tensor([1])))
    assert out[0].tolist() == [3.0, 3.0]
    out.sum().backward()
    assert monoid.monoid.empty.grad is not None
    assert monoid.monoid.empty.grad.tolist() == [1.0, 1.0]


def test_normalized_is_as_the_wrapped_one() -> None:
    class Left(LearnedMonoid):
        commutative = False

        def operator(self, a: Tensor, b: Tensor) -> Tensor:
            return a

    assert not Normalized(Left(2)).commutative and Normalized(BinaryGRU(2)).commutative
    assert not Normalized(Symmetrized(torch.mul, 2)).recomputable
    assert not Normalized(GatedLattice(2)).idempotent
    gain = Normalized(BinaryLSTM(2).double(), gain=True).gain
    assert gain is not None and gain.shape == (4,) and gain.dtype == torch.float64
    assert (
        repr(Normalized(BinaryGRU(2), gain=True))
        == "Normalized(BinaryGRU(2), gain=True, eps=0.001)"
    )


@pytest.mark.parametrize("make", [BinaryLSTM, GatedLattice, PairAttention, SlotSelection])
@pytest.mark.parametrize("channels", [0, -1, 2.0, True, None])
def test_bad_channels(make: Callable[[object], LearnedMonoid], channels: object) -> None:
    with pytest.raises(ValueError, match=r"'channels' .*\(got "):
        make(channels)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"'heads' must divide 'channels' = 6 \(got 4\).*heads=2"):
        PairAttention(6)
    with pytest.raises(ValueError, match=r"'heads' must be a positive integer \(got 0\)"):
        PairAttention(4, heads=0)
    with pytest.raises(ValueError, match=r"'slots' must divide 'channels' = 6 \(got 4\).*slots=2"):
        SlotSelection(6)
    with pytest.raises(ValueError, match=r"'slots' must be a positive integer \(got 0\)"):
        SlotSelection(4, slots=0)
    with pytest.raises(ValueError, match=r"'hidden' must be a positive integer \(got 1.5\)"):
        PairAttention(4, hidden=1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"'monoid' must be a LearnedMonoid, .*\(got Sum\(2\)\)"):
        Normalized(Sum(2))  # type: ignore[arg-type]
    for eps in (0, -1.0, float("nan"), float("inf"), "small"):
        with pytest.raises(ValueError, match=r"'eps' must be a number from 1e-9 on \(got "):
            Normalized(BinaryGRU(2), eps=eps)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MAKERS)
def test_bad_elements(name: str) -> None:
    monoid = MAKERS[name]()
    assert monoid.channels is not None
    with pytest.raises(ValueError, match=r"takes elements \[n, "):
        monoid.lift(torch.randn(3, monoid.channels + 1))
    with pytest.raises(ValueError, match=r"floating-point elements"):
        monoid.lift(torch.ones(3, monoid.channels, dtype=torch.long))


@pytest.mark.parametrize("name", MAKERS)
def test_absence_is_exact(name: str) -> None:
    """Beside the identity nothing changes, whatever the operator would make of it."""
    monoid = random(name)
    state = monoid.lift(elements(monoid, 5))
    nothing = monoid.identity(5)
    spoilt = Adjoined(torch.full_like(nothing.value, torch.nan), nothing.present)
    for e in (nothing, spoilt):
        for out in (monoid.combine(state, e), monoid.combine(e, state)):
            assert torch.equal(out.value, state.value)


class OneMethod(LearnedMonoid):
    """An operator as a user writes it: modules, and one method."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.layers = nn.Sequential(nn.Linear(channels, channels), nn.Tanh())

    def operator(self, a: Tensor, b: Tensor) -> Tensor:
        return self.layers(a + b)


def test_modules_of_a_user_s_operator_are_drawn_anew() -> None:
    monoid = OneMethod(4)
    nn.init.ones_(monoid.empty)
    before = [parameter.detach().clone() for parameter in monoid.parameters()]
    monoid.reset_parameters()
    assert torch.equal(monoid.empty, torch.zeros(4))
    for parameter, old in zip(monoid.parameters(), before, strict=True):
        assert not torch.equal(parameter, old)
