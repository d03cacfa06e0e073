"""What is asked of every module: state_dict, copies, resets."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lcm_graph.testing.compare import expect, expect_equal

Evaluate = Callable[[nn.Module], Tensor]
"""Uses a module on fixed input."""


def perturb(module: nn.Module) -> None:
    """Move every parameter to some other value."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.linspace(0.5, 1.0, parameter.numel()).view_as(parameter))


def state_dict_round_trip(module: nn.Module, evaluate: Evaluate) -> None:
    """A copy with other parameters that loads the ``state_dict`` gives the same answers."""
    other = copy.deepcopy(module)
    perturb(other)
    other.load_state_dict(module.state_dict())
    expect_equal(evaluate(other), evaluate(module), "after load_state_dict(state_dict())")


def deepcopy_round_trip(module: nn.Module, evaluate: Evaluate) -> None:
    """A deep copy gives the same answers and shares no parameter."""
    expected = evaluate(module).detach().clone()
    other = copy.deepcopy(module)
    expect_equal(evaluate(other), expected, "after copy.deepcopy")
    perturb(other)
    expect_equal(evaluate(module), expected, "after its deep copy changed")


def pickle_round_trip(module: nn.Module, evaluate: Evaluate) -> None:
    """A pickled and unpickled module gives the same answers."""
    other = pickle.loads(pickle.dumps(module))
    expect_equal(evaluate(other), evaluate(module), "after pickling")


def reset_changes_parameters(module: nn.Module) -> dict[str, int]:
    """``reset_parameters`` exists and replaces every parameter."""
    reset = getattr(module, "reset_parameters", None)
    expect(callable(reset), f"expected {type(module).__name__} to have reset_parameters")
    perturb(module)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module.reset_parameters()  # type: ignore[operator]
    for name, parameter in module.named_parameters():
        expect(
            parameter.numel() == 0 or not torch.equal(parameter, before[name]),
            f"expected reset_parameters to change {name!r} {tuple(parameter.shape)}, it did not",
        )
        expect(bool(parameter.isfinite().all()), f"{name!r} is not finite after reset_parameters")
    return {"parameters": len(before)}
