"""What a recomputing backward pass must get right besides the numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lcm_graph.monoids import BinaryGRU, Monoid, Sum, Symmetrized
from lcm_graph.reduce import segment_reduce, steps
from tests.references import Ordered, error, gradients, index_of

INDEX = index_of((3, 0, 1, 13, 20))
N = 37


class Concatenated(nn.Module):
    """An operator with dropout."""

    def __init__(self, channels: int, dropout: float = 0.4) -> None:
        super().__init__()
        self.lin = nn.Linear(2 * channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.dropout(torch.tanh(self.lin(torch.cat([a, b], dim=-1))))


class ClosedOver(Sum):
    """A monoid that uses a tensor it does not own."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__(3)
        self.hidden = [weight]

    def segment(self, state: Tensor, index: Tensor, dim_size: int) -> None:  # type: ignore[override]
        return None

    def combine(self, left: Tensor, right: Tensor) -> Tensor:
        return (left + right) @ self.hidden[0]


def fold(monoid: Monoid, x: Tensor, recompute: bool = True, index: Tensor = INDEX) -> Tensor:
    states = segment_reduce(monoid, monoid.lift(x), index, recompute=recompute)
    return monoid.lower(states)


def draw(n: int = N, channels: int = 3) -> Tensor:
    return torch.randn(n, channels, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("n", [N, 2000], ids=["one-chunk", "chunks"])
def test_dropout_in_the_operator(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backward pass drops what the forward pass dropped, and leaves the generator alone."""
    if n > N:
        monkeypatch.setitem(steps.CHUNK_ELEMENTS, "cpu", 1)
    monoid = Symmetrized(Concatenated(3), 3).double()
    index = INDEX if n == N else torch.randint(0, 40, (n,))
    x = draw(n)
    inputs = [x, *monoid.parameters()]
    torch.manual_seed(5)
    out = fold(monoid, x, index=index)
    after = torch.get_rng_state()
    got = gradients(out, inputs)
    assert torch.equal(torch.get_rng_state(), after)

    # Without a graph the same combines draw the same numbers: finite differences show the gradient.
    direction = torch.randn(n, 3, dtype=torch.float64)
    values = []
    for step in (1e-6, -1e-6):
        torch.manual_seed(5)
        with torch.no_grad():
            values.append(fold(monoid, x + step * direction, index=index))
    generator = torch.Generator().manual_seed(0)
    cotangent = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    slope = ((values[0] - values[1]) / 2e-6 * cotangent).sum()
    assert error((got[0] * direction).sum(), slope) <= 1e-6


def test_dropout_recomputed_is_dropout_by_autograd() -> None:
    monoid = Symmetrized(Concatenated(3), 3).double()
    x = draw()
    inputs = [x, *monoid.parameters()]
    found = []
    for recompute in (True, False):
        torch.manual_seed(5)
        out = fold(monoid, x, recompute)
        found.append([out, *gradients(out, inputs)])
    for got, wanted in zip(*found, strict=True):
        assert error(got, wanted) <= 1e-10


@pytest.mark.parametrize("n", [N, 2000], ids=["one-chunk", "chunks"])
def test_dropout_with_create_graph(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient that is to be differentiated is the same gradient."""
    if n > N:
        monkeypatch.setitem(steps.CHUNK_ELEMENTS, "cpu", 1)
    monoid = Symmetrized(Concatenated(3), 3).double()
    index = INDEX if n == N else torch.randint(0, 40, (n,))
    x = draw(n)
    torch.manual_seed(5)
    loss = fold(monoid, x, index=index).square().sum()
    (plain,) = torch.autograd.grad(loss, x, retain_graph=True)
    (differentiable,) = torch.autograd.grad(loss, x, create_graph=True)
    assert error(differentiable, plain) <= 1e-10


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_tensor_that_is_not_the_monoids_is_refused(create_graph: bool) -> None:
    weight = torch.eye(3, dtype=torch.float64, requires_grad=True)
    x = draw()
    out = fold(ClosedOver(weight), x)
    message = r"ClosedOver.*shape \(3, 3\).*parameter.*recompute=False"
    with pytest.raises(RuntimeError, match=message):
        torch.autograd.grad(out.sum(), x, create_graph=create_graph)


def test_a_tensor_that_is_not_the_monoids_without_recomputing() -> None:
    weight = torch.eye(3, dtype=torch.float64, requires_grad=True)
    fold(ClosedOver(weight), draw(), recompute=False).sum().backward()
    assert weight.grad is not None and weight.grad.any()


@pytest.mark.parametrize("kind", ["recompute=False", "function"])
def test_a_closed_over_tensor_alone_needs_gradients(kind: str) -> None:
    """Elements and parameters need none: the graph must be kept all the same."""
    weight = torch.eye(3, dtype=torch.float64, requires_grad=True)
    if kind == "function":
        monoid: Monoid = Symmetrized(lambda a, b: torch.tanh((a + 2 * b) @ weight), 3)
        out = fold(monoid.double().requires_grad_(False), draw().detach())
    else:
        out = fold(ClosedOver(weight), draw().detach(), recompute=False)
    assert out.requires_grad, "the gradient of the closed-over tensor is lost silently"
    out.sum().backward()
    assert weight.grad is not None and weight.grad.any()


def test_function_operator_keeps_gradients_of_what_it_closes_over() -> None:
    weight = torch.eye(3, dtype=torch.float64, requires_grad=True)
    monoid = Symmetrized(lambda a, b: torch.tanh((a + 2 * b) @ weight), 3).double()
    fold(monoid, draw()).sum().backward()
    assert weight.grad is not None and weight.grad.any()


def test_second_backward_through_a_retained_graph(make_gru: type[BinaryGRU]) -> None:
    monoid = make_gru(3).double()
    x = draw()
    out = fold(monoid, x)
    cotangent = torch.randn_like(out)
    inputs = [x, *monoid.parameters()]
    first = torch.autograd.grad(out, inputs, cotangent, retain_graph=True)
    second = torch.autograd.grad(out, inputs, cotangent)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(out, inputs, cotangent)


@pytest.mark.parametrize("what", ["elements", "parameters"])
def test_inputs_changed_in_place_are_noticed(make_gru: type[BinaryGRU], what: str) -> None:
    monoid = make_gru(3).double()
    x = draw()
    elements = x * 1.0
    out = fold(monoid, elements)
    with torch.no_grad():
        (elements if what == "elements" else monoid.weight_hh).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@pytest.mark.parametrize("frozen", ["elements", "weight_ih", "all parameters"])
def test_frozen_inputs(make_gru: type[BinaryGRU], frozen: str) -> None:
    monoid = make_gru(3).double()
    x = draw()
    everything = {"x": x, **dict(monoid.named_parameters())}
    expected = dict(
        zip(everything, gradients(fold(monoid, x), list(everything.values())), strict=True)
    )
    cold = {"elements": ["x"], "weight_ih": ["weight_ih"]}.get(frozen, [*everything][1:])
    for name in cold:
        everything[name].requires_grad_(False)
    warm = {name: t for name, t in everything.items() if name not in cold}
    for name, got in zip(warm, gradients(fold(monoid, x), list(warm.values())), strict=True):
        assert error(got, expected[name]) <= 1e-12
    fold(monoid, x).sum().backward()
    assert all(everything[name].grad is None for name in cold)


@pytest.mark.parametrize("way", ["save_on_cpu", "checkpoint", "reentrant"])
def test_under_hooks_of_saved_tensors(make_gru: type[BinaryGRU], way: str) -> None:
    """Offloading and checkpointing hand the backward pass other tensors than were saved."""
    monoid = make_gru(3).double()
    x = draw()
    inputs = [x, *monoid.parameters()]
    expected = gradients(fold(monoid, x).tanh(), inputs)
    if way == "save_on_cpu":
        with torch.autograd.graph.save_on_cpu():
            out = fold(monoid, x).tanh()
    else:
        out = checkpoint(fold, monoid, x, use_reentrant=way == "reentrant").tanh()
    if way == "reentrant":
        out.backward(
            torch.randn(out.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        )
        got = [t.grad for t in inputs[:1]] + [p.grad for p in monoid.parameters()]
    else:
        got = [*gradients(out, inputs)]
    for one, wanted in zip(got, expected, strict=True):
        assert (one is None and not wanted.any()) or error(one, wanted) <= 1e-10  # type: ignore[arg-type]


def test_only_some_sets_are_used() -> None:
    """Sets without a part in the loss get no gradient."""
    monoid = Ordered(3).double()
    x = draw()
    fold(monoid, x)[[0, 4]].sum().backward()
    assert x.grad is not None
    assert not x.grad[3:17].any()
    assert bool((x.grad[:3] != 0).all() and (x.grad[17:] != 0).all())


def test_inference_mode_and_no_grad(make_gru: type[BinaryGRU]) -> None:
    monoid = make_gru(3).double()
    x = draw()
    expected = fold(monoid, x).detach()
    with torch.no_grad():
        assert torch.equal(fold(monoid, x), expected)
    with torch.inference_mode():
        assert torch.equal(fold(monoid, x), expected)


def test_input_is_not_overwritten() -> None:
    monoid = Ordered(3).double()
    x = draw()
    before = x.detach().clone()
    fold(monoid, x).sum().backward()
    with torch.no_grad():
        fold(monoid, x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("recompute", [True, False])
def test_only_a_tensor_of_nobody_needs_a_gradient(recompute: bool) -> None:
    weight = torch.eye(3, dtype=torch.float64, requires_grad=True)
    out = fold(ClosedOver(weight), draw().detach(), recompute)
    (grad,) = torch.autograd.grad(out.sum(), weight)
    assert bool(grad.any())


def test_complex_states() -> None:
    """Phases that multiply: counting modulo, with states that are complex numbers."""

    class Phase(Monoid):
        def lift(self, x: Tensor) -> Tensor:
            return torch.polar(torch.ones_like(x), x)

        def combine(self, left: Tensor, right: Tensor) -> Tensor:
            return left * right

        def identity(
            self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
        ) -> Tensor:
            return torch.ones(self._identity_shape(n), dtype=torch.complex128, device=device)

        def lower(self, state: Tensor) -> Tensor:
            return state.angle()

    x = draw()
    monoid = Phase(3)
    index = INDEX
    grads = []
    for recompute in (True, False):
        states = segment_reduce(monoid, monoid.lift(x), index, recompute=recompute)
        grads.append(torch.autograd.grad(monoid.lower(states).sum(), x)[0])
    assert error(grads[0], grads[1]) <= 1e-12
    assert error(grads[0], torch.ones_like(x)) <= 1e-12
