"""Gates of single numbers, and what they cost."""

from __future__ import annotations

import math

import pytest
import torch

from lcm_graph.aggregators.number_gates import CLOSED, KNEE, STEEPNESS, NumberGates
from tests.references import error


def gates_at(values: list[float]) -> NumberGates:
    gates = NumberGates(len(values)).double()
    with torch.no_grad():
        gates.log_gate.copy_(torch.tensor(values, dtype=torch.float64).log() / STEEPNESS)
    return gates


def test_a_new_gate_lets_all_through() -> None:
    gates = NumberGates(3)
    assert gates().tolist() == [1, 1, 1] and gates.loss() == 3


def test_what_a_gate_costs() -> None:
    gates = gates_at([0.0, 0.1, 1.0, 40.0, 0.9 * CLOSED])
    loss = gates.loss()
    whole = math.log(1 + 1 / KNEE)
    expected = sum(math.log(1 + gate / KNEE) / whole for gate in (0.1, 1, 40))
    assert loss.item() == pytest.approx(expected)
    loss.backward()
    value = gates().detach()
    assert gates.log_gate.grad is not None
    assert error(gates.log_gate.grad, STEEPNESS * value / (value + KNEE) / whole) < 1e-12


def test_what_has_closed_stays_closed() -> None:
    gates = gates_at([0.9 * CLOSED, 1.1 * CLOSED])
    assert gates()[0] == 0 and gates()[1] > 0
    gates.close()
    with torch.no_grad():
        gates.log_gate.zero_()
    assert gates().tolist() == [0, 1]
    gates().sum().backward()
    assert gates.log_gate.grad is not None and gates.log_gate.grad[0] == 0
    other = NumberGates(2).double()
    other.load_state_dict(gates.state_dict())
    assert other().tolist() == [0, 1]
    gates.reset_parameters()
    assert gates().tolist() == [1, 1]


def test_closing_between_two_calls_before_one_backward() -> None:
    gates = gates_at([0.5, 0.9 * CLOSED])
    first = gates()
    gates.close()
    (first + gates()).sum().backward()
    assert gates.log_gate.grad is not None
    assert gates.log_gate.grad.tolist() == [2 * STEEPNESS * 0.5, 0]
