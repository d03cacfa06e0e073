"""The conformance suite of PyG aggregations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch_geometric.nn.aggr import Aggregation

from lcm_graph.testing import aggregation_calls, aggregation_layers, aggregation_sets
from lcm_graph.testing.check import Check, Measurement, make_checks
from lcm_graph.testing.compare import expect, expect_close, expect_equal
from lcm_graph.testing.module import (
    deepcopy_round_trip,
    pickle_round_trip,
    reset_changes_parameters,
    state_dict_round_trip,
)
from lcm_graph.testing.sets import SIZES, AggregationSubject


def check_aggregation(
    aggregation: Aggregation,
    in_channels: int,
    *,
    permutation_invariant: bool = False,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Check]:
    """Checks that hold a PyG ``Aggregation`` to PyG's contract, and each set to itself alone.

    The checks are independent of each other and leave ``aggregation`` untouched::

        @pytest.mark.parametrize("check", check_aggregation(MyAggregation(8, 4), 8), ids=str)
        def test_my_aggregation(check):
            check()

    PyG's own can be checked, too; several of them fail ``batch_invariance``.

    Args:
        aggregation: what to check, in eval mode; it must not keep sets from call to call.
        in_channels: features of an element.
        permutation_invariant: whether the order of a set's elements must not matter. If False, the
            check ``permutation`` measures how much it does.
        seed: of the elements drawn.
        dtype: of the elements and parameters; gradients are checked in float64.
        expected_failures: check name -> why it is known to fail. Such a check passes by failing.

    Raises:
        ValueError: ``expected_failures`` names an unknown check.
        TypeError: ``aggregation`` is none.
    """
    if not isinstance(aggregation, Aggregation):
        raise TypeError(
            "'aggregation' must be a torch_geometric.nn.aggr.Aggregation "
            f"(got {type(aggregation).__name__})"
        )
    subject = AggregationSubject(aggregation, in_channels, permutation_invariant, seed, dtype)
    functions = [
        *aggregation_calls.CHECKS,
        *aggregation_sets.CHECKS,
        *aggregation_layers.CHECKS,
        check_gradients,
        check_parameter_gradients,
        check_deterministic,
        check_dtypes,
        check_state_dict,
        check_deepcopy,
        check_pickle,
        check_reset_parameters,
        check_repr,
    ]
    return make_checks(functions, subject, expected_failures)


def check_gradients(subject: AggregationSubject) -> Measurement:
    """Gradients agree with finite differences, of elements and of parameters (float64)."""
    aggregation = subject.fresh(torch.float64)
    index = subject.index((1, 3, 5, 2))
    x = subject.draw(len(index), 7, torch.float64).requires_grad_()
    inputs = (x, *(p for p in aggregation.parameters() if p.requires_grad))
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(subject.seed)
            # Parameters are the module's own tensors: perturbed in place, the module sees it.
            torch.autograd.gradcheck(lambda x, *_: aggregation(x, index), inputs, fast_mode=True)
    except RuntimeError as error:
        raise AssertionError(f"gradients on sizes (1, 3, 5, 2): {error}") from error
    return {"inputs": len(inputs)}


def check_parameter_gradients(subject: AggregationSubject) -> Measurement:
    """A backward pass reaches every parameter, as distributed training asks."""
    aggregation = subject.fresh()
    index = subject.index((2, 3, 5))
    x = subject.draw(len(index)).requires_grad_()
    aggregation(x, index).square().sum().backward()
    for name, tensor in [("x", x), *aggregation.named_parameters()]:
        expect(
            not tensor.requires_grad or tensor.grad is not None,
            f"expected a gradient for {name!r} {tuple(tensor.shape)} on sizes (2, 3, 5), got None",
        )
        expect(
            tensor.grad is None or bool(tensor.grad.isfinite().all()),
            f"expected a finite gradient for {name!r}",
        )
    return None


def check_deterministic(subject: AggregationSubject) -> Measurement:
    """In eval mode the same call gives the same answer, to the last bit."""
    aggregation = subject.fresh()
    evaluate = partial(subject.evaluate, aggregation)
    expect_equal(evaluate(), evaluate(), f"a second call on sizes {SIZES}")
    return None


def check_dtypes(subject: AggregationSubject) -> Measurement:
    """float32 and float64 are kept."""
    index = subject.index(SIZES)
    outputs = []
    for dtype in (torch.float64, torch.float32):
        x = subject.draw(len(index), 0, dtype)
        out = subject.fresh(dtype)(x, index, dim_size=len(SIZES))
        expect(out.dtype == dtype, f"expected an output of {dtype}, got {out.dtype}")
        outputs.append(out)
    return expect_close(outputs[1], outputs[0].float(), "float32 against float64", 1e-4)


def check_state_dict(subject: AggregationSubject) -> Measurement:
    """``load_state_dict(state_dict())`` restores the aggregation."""
    state_dict_round_trip(subject.fresh(), subject.evaluate)
    return None


def check_deepcopy(subject: AggregationSubject) -> Measurement:
    """A deep copy is alike and independent (``to_hetero`` makes them)."""
    deepcopy_round_trip(subject.fresh(), subject.evaluate)
    return None


def check_pickle(subject: AggregationSubject) -> Measurement:
    """Pickling keeps the answers."""
    pickle_round_trip(subject.fresh(), subject.evaluate)
    return None


def check_reset_parameters(subject: AggregationSubject) -> Measurement:
    """``reset_parameters``, which every PyG layer calls, changes every parameter."""
    return reset_changes_parameters(subject.fresh())


def check_repr(subject: AggregationSubject) -> Measurement:
    """The representation is one line (PyG stores it for each layer)."""
    text = repr(subject.fresh())
    expect("\n" not in text and bool(text), f"expected a repr of one line, got {text!r}")
    return None
