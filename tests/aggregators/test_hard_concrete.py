"""Gates that are learned by being shut at random."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lcm_graph.aggregators.hard_concrete import CLOSED, RATE, START, HardConcrete


def gates_at(log_alpha: list[float]) -> HardConcrete:
    gates = HardConcrete(len(log_alpha)).double()
    with torch.no_grad():
        gates.logit.copy_((torch.tensor(log_alpha) - START) / RATE)
    return gates


def at_quantile(u: Tensor, log_alpha: float) -> Tensor:
    """The source's gate, as a function of uniform ``u``."""
    s = torch.sigmoid((u.log() - (1 - u).log() + log_alpha) * 3 / 2)
    return (1.2 * s - 0.1).clamp(0, 1)


def test_draws_have_the_distribution_of_the_source() -> None:
    log_alpha = [-2.0, 0.0, 2.5]
    drawn = gates_at(log_alpha)(200_000).sort(dim=0).values
    grid = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    for column, alpha in zip(drawn.T, log_alpha, strict=True):
        expected = at_quantile(grid, alpha)
        assert (column - expected).abs().mean() < 5e-3
        for end in (0, 1):
            assert ((column == end).double() - (expected == end).double()).mean().abs() < 5e-3


def test_probability_that_a_draw_is_not_zero() -> None:
    gates = gates_at([-3.0, -1.0, 0.0, 2.5])
    share = (gates(200_000) > 0).double().mean(0)
    assert (share - gates.open_probability()).abs().max() < 5e-3


def test_open_is_what_is_more_often_open_than_not_and_the_most_likely() -> None:
    even = -2 / 3 * math.log(11)
    assert gates_at([even - 0.1, even + 0.1, 2.0]).is_open().tolist() == [False, True, True]
    assert gates_at([-4.0, -3.0, -3.0, -5.0]).is_open().tolist() == [False, True, False, False]


def test_a_new_gate_is_open() -> None:
    gates = HardConcrete(3)
    assert (gates.open_probability() > 0.97).all() and gates.is_open().all()


def test_gradients_of_draws() -> None:
    gates = gates_at([-1.0, 0.0, 1.0])

    def draw(logit: Tensor) -> Tensor:
        torch.manual_seed(0)
        return torch.func.functional_call(gates, {"logit": logit}, (7,))

    assert torch.autograd.gradcheck(draw, gates.logit.detach().requires_grad_())


def test_what_hardly_opens_is_closed_for_good() -> None:
    log_odds = math.log(CLOSED / (1 - CLOSED)) - 2 / 3 * math.log(11)  # opens once in 100
    gates = gates_at([log_odds - 0.1, log_odds + 0.1])
    assert not gates.closed.any()
    gates.close()
    assert gates.closed.tolist() == [True, False]
    with torch.no_grad():
        gates.logit.zero_()  # as weight decay would have it
    drawn = gates(100)
    assert drawn[:, 0].eq(0).all() and drawn[:, 1].max() == 1
    assert gates.is_open().tolist() == [False, True] and gates.open_probability()[0] == 0
    (drawn.sum() + gates.open_probability().sum()).backward()
    assert gates.logit.grad is not None
    assert gates.logit.grad[0] == 0 and gates.logit.grad.isfinite().all()
    other = HardConcrete(2).double()
    other.load_state_dict(gates.state_dict())
    assert other.is_open().tolist() == [False, True]
    gates.reset_parameters()
    assert gates.is_open().all() and (gates.open_probability() > 0.97).all()


def test_the_last_is_not_closed() -> None:
    gates = gates_at([-20.0, -19.0, -20.0])
    gates.close()
    assert gates.closed.tolist() == [True, False, True]
    assert gates.is_open().tolist() == [False, True, False]


def test_no_gate_gets_more_open_than_a_new_one() -> None:
    gates = gates_at([START + 1, START - 1])
    gates.close()
    torch.testing.assert_close(gates.logit * RATE, torch.tensor([0, -1.0], dtype=torch.float64))


def test_settled_gates_are_constant() -> None:
    gates = gates_at([1.0, -2.5, -1.0])
    gates.settle(torch.tensor(False))
    assert len(gates(100).unique()) > 3
    gates.settle(torch.tensor(True))
    with torch.no_grad():
        gates.logit.copy_(torch.tensor([-5.0, 0, -5]))
    gates.close()
    expected = torch.tensor([1.0, 0, 1], dtype=torch.float64)
    assert torch.equal(gates(50), expected.expand(50, 3))
    assert torch.equal(gates.open_probability(), expected)
    assert gates.is_open().tolist() == [True, False, True]
    gates(50).sum().backward()
    assert gates.logit.grad is not None and gates.logit.grad.eq(0).all()


@pytest.mark.parametrize("is_needed", [True, False])
def test_a_price_closes_what_is_not_missed_and_a_loss_opens_what_is(is_needed: bool) -> None:
    gates = gates_at([0.0])
    optimizer = torch.optim.Adam(gates.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        loss = (1 - gates(64)).square().mean() if is_needed else 0.0
        (loss + 0.1 * gates.open_probability().sum()).backward()
        optimizer.step()
        gates.close()
    assert (gates.open_probability().item() > 0.9) == is_needed


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_draws_of_half_precision_gates_are_drawn_in_float32(dtype: torch.dtype) -> None:
    drawn = HardConcrete(2).to(dtype)(100_000)
    assert drawn.dtype == torch.float32 and drawn.isfinite().all()
    assert len(drawn.unique()) > 1000
