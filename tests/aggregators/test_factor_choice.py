"""Factors are seen in parts, then shut at random, then chosen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lcm_graph.aggregators.factor_choice import LOWEST, FactorChoice

COSTS = [1.0, 2.0, 0.5]


def choice(**kwargs: Any) -> FactorChoice:
    arguments = {"weight": 1.0, "warmup": 2, "choice": 6, "dropout": 0.4, **kwargs}
    return FactorChoice(COSTS, **arguments)


def after(calls: int, **kwargs: Any) -> FactorChoice:
    made = choice(**kwargs)
    for _ in range(calls):
        made.count_call()
    return made


def test_in_the_warm_up_sets_see_random_parts_and_never_nothing() -> None:
    gates = after(2)(200_000)
    assert gates.unique().tolist() == [0, 1]
    assert gates.amax(1).eq(1).all()
    # One of three is seen anyway, each of the others with probability 0.6.
    assert (gates.mean(0) - (1 / 3 + 2 / 3 * 0.6)).abs().max() < 5e-3
    alone = (gates.sum(1) == 1).float().mean().item()
    assert alone == pytest.approx(0.4**2, abs=5e-3)
    assert after(2, dropout=0.0)(100).eq(1).all()


def test_then_gates_are_shut_at_random_and_then_constant() -> None:
    for calls in (3, 8):
        gates = after(calls)(10_000)
        assert gates.shape == (10_000, 3) and len(gates.unique()) > 100
    made = after(9)
    assert torch.equal(made(10_000), torch.ones(1, 3))
    made = after(5)
    with torch.no_grad():
        made.gates.logit[1] = -0.6
    for _ in range(4):
        made.count_call()
    assert torch.equal(made(10_000), torch.tensor([[1.0, 0, 1]]))


def test_in_evaluation_each_gate_is_open_or_not() -> None:
    made = after(5).eval()
    assert torch.equal(made(100), torch.ones(1, 3))
    with torch.no_grad():
        made.gates.logit[:2] = -0.6
    assert torch.equal(made(100), torch.tensor([[0.0, 0, 1]]))


def expected_loss(likely: Tensor, costs: list[float], weight: float) -> float:
    return weight * (torch.tensor(costs) @ likely).item()


def test_the_price_rises_from_little_to_all() -> None:
    made = after(0, weight=2.0)
    likely = made.gates.open_probability()
    losses = []
    for _ in range(9):
        made.count_call()
        losses.append(made.loss().item())
    weights = [2 * LOWEST ** max(0, 1 - i / 4) for i in range(1, 7)]
    expected = [expected_loss(likely, COSTS, weight) for weight in weights]
    assert losses == pytest.approx([0, 0, *expected, 0], rel=1e-5)
    made.loss().backward()
    grad = made.gates.logit.grad
    assert grad is not None and grad.eq(0).all()


@pytest.mark.parametrize(
    ("logit", "costs"),
    [
        ([0.0, 0.0, 0.0], COSTS),
        ([0.0, -0.6, -0.6], [0, 2.0, 0.5]),
        ([-0.7, -0.6, -0.7], [1.0, 0, 0.5]),
        ([0.0, -0.1, -0.6], COSTS),
    ],
)
def test_the_last_is_free(logit: list[float], costs: list[float]) -> None:
    made = after(8)
    with torch.no_grad():
        made.gates.logit.copy_(torch.tensor(logit))
    likely = made.gates.open_probability()
    assert made.loss().item() == pytest.approx(expected_loss(likely, costs, 1.0))


@pytest.mark.parametrize("weight", [0.05, 3.0])
def test_what_is_missed_by_more_than_its_price_stays_and_the_most_missed_in_any_case(
    weight: float,
) -> None:
    made = choice(weight=weight, warmup=0, choice=600)
    optimizer = torch.optim.Adam(made.parameters(), lr=0.01)
    for _ in range(601):
        made.count_call()
        optimizer.zero_grad()
        gates = made(256)
        # Missed by 0.2 and by 0.1, for prices of weight and of half of it; the other is not missed.
        missed = 0.2 * (1 - gates[:, 0]) + 0.1 * (1 - gates[:, 2])
        (missed.mean() + made.loss()).backward()
        optimizer.step()
    stays = made.eval()(1).tolist()
    assert stays == ([[1, 0, 1]] if weight == 0.05 else [[1, 0, 0]])


def test_without_a_weight_nothing_closes_and_what_was_closed_stays_closed() -> None:
    made = after(9, weight=0.0)
    with torch.no_grad():
        made.gates.logit.fill_(-1)
    assert torch.equal(made(100), torch.ones(1, 3)) and made.loss() == 0
    assert torch.equal(made.eval()(100), torch.ones(1, 3))
    made.gates.closed[1] = True
    assert torch.equal(made(100), torch.tensor([[1.0, 0, 1]]))


def test_a_single_factor_is_open_and_free() -> None:
    made = FactorChoice([1.0], 1.0, 0, 1, 0.5)
    made.count_call()
    with torch.no_grad():
        made.gates.logit.fill_(-2)
    assert made.loss() == 0
    made.count_call()
    assert made(5).tolist() == [[1]]


def test_what_was_chosen_is_loaded() -> None:
    one, other = after(5), choice()
    with torch.no_grad():
        one.gates.logit[0] = -0.6
    for _ in range(5):
        one.count_call()
    other.load_state_dict(one.state_dict())
    assert other.has_chosen and torch.equal(other(3), torch.tensor([[0.0, 1, 1]]))
    other.reset_parameters()
    assert not other.has_chosen and other.gates.is_open().all()


def test_a_bfloat16_choice_costs_what_a_float32_one_does() -> None:
    made = after(4)
    expected = made.loss().item()
    assert made.to(torch.bfloat16).loss().item() == pytest.approx(expected, rel=1e-2)
    assert made(10).shape == (10, 3)
