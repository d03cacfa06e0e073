"""The conformance suites fail what they should, and say so understandably."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn.aggr import Aggregation, SumAggregation

from lcm_graph.monoids import BinaryGRU, LearnedMonoid, Max, Mean, MeanState, Monoid, Sum
from lcm_graph.monoids.segment import segment_sum
from lcm_graph.testing import Check, check_aggregation, check_monoid, relative_error


class Difference(Sum):
    """Claims everything a sum does."""

    def combine(self, left: Tensor, right: Tensor) -> Tensor:
        return left - right


class MeanOfTwo(Sum):
    """The midpoint: commutative and idempotent, not associative, without identity."""

    idempotent = True

    def combine(self, left: Tensor, right: Tensor) -> Tensor:
        return (left + right) / 2


class WrongForm(Sum):
    def segment(self, state: Tensor, index: Tensor, dim_size: int) -> Tensor:
        return 2 * super().segment(state, index, dim_size)


class WrongInverse(Sum):
    def inverse(self, state: Tensor) -> Tensor:
        return state


class UnclaimedInverse(Max):
    def inverse(self, state: Tensor) -> Tensor:
        return -state


class NoisyWeigh(Sum):
    def weigh(self, state: Tensor, weight: Tensor) -> Tensor:
        return state * (0.5 + weight.unsqueeze(1) / 2)


class InPlace(Sum):
    def combine(self, left: Tensor, right: Tensor) -> Tensor:
        return left.add_(right)


class Entangled(Sum):
    """Looks at the other elements of the batch."""

    def segment(self, state: Tensor, index: Tensor, dim_size: int) -> None:  # type: ignore[override]
        return None

    def combine(self, left: Tensor, right: Tensor) -> Tensor:
        return left + right - left.mean(0) + left.mean(0) * len(left)


class Widens(Mean):
    def combine(self, left: MeanState, right: MeanState) -> MeanState:
        wide = super().combine(left, right)
        return wide._replace(mean=wide.mean.double())


class Lossy(LearnedMonoid):
    """Cuts the gradient of one operand."""

    def operator(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b + (a + b).detach()


class Unpicklable(Sum):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.hook = lambda x: x


class TwoLines(Sum):
    def __repr__(self) -> str:
        return "Two\nLines"


class NeverReset(BinaryGRU):
    def reset_parameters(self) -> None:
        if not hasattr(self, "done"):
            super().reset_parameters()
            self.done = True


def failures(checks: list[Check]) -> set[str]:
    failed = set()
    for check in checks:
        try:
            check()
        except AssertionError as error:
            assert str(error)
            failed.add(str(check))
    return failed


@pytest.mark.parametrize(
    ("monoid", "at_least"),
    [
        (Difference(3), {"commutative", "associative", "identity_left", "forms"}),
        (MeanOfTwo(3), {"associative", "identity_left", "identity_right", "inverse", "forms"}),
        (WrongForm(3), {"forms", "form_gradients", "singleton"}),
        (WrongInverse(3), {"inverse"}),
        (UnclaimedInverse(3), {"inverse"}),
        (NoisyWeigh(3), {"weigh"}),
        (InPlace(3), {"states"}),
        (Entangled(3), {"rows", "batch_invariance"}),
        (Widens(3), {"dtypes"}),
        (Lossy(3), {"gradients"}),
        (Unpicklable(3), {"pickle"}),
        (TwoLines(3), {"repr"}),
        (NeverReset(3), {"reset_parameters"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Monoid) else "",
)
def test_check_monoid_finds(monoid: Monoid, at_least: set[str]) -> None:
    assert failures(check_monoid(monoid)) >= at_least


class Mutual(SumAggregation):
    """Subtracts the mean over all sets."""

    def forward(self, x, index=None, ptr=None, dim_size=None, dim=-2, max_num_elements=None):
        out = super().forward(x, index, ptr, dim_size, dim)
        return out - out.mean(dim, keepdim=True)


class LastDim(Aggregation):
    """Knows matrices only, and no ``ptr``."""

    def forward(self, x, index=None, ptr=None, dim_size=None, dim=-2, max_num_elements=None):
        self.assert_index_present(index)
        self.assert_two_dimensional_input(x, dim)
        return segment_sum(x, index, dim_size)


class Idle(Aggregation):
    """Has a parameter that takes no part, and no way to draw it anew."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Parameter(torch.ones(2))

    def forward(self, x, index=None, ptr=None, dim_size=None, dim=-2, max_num_elements=None):
        return self.reduce(x, index, ptr, dim_size, dim)


class Noisy(SumAggregation):
    def forward(self, x, index=None, ptr=None, dim_size=None, dim=-2, max_num_elements=None):
        out = super().forward(x, index, ptr, dim_size, dim)
        return out + torch.rand_like(out)


@pytest.mark.parametrize(
    ("aggregation", "at_least"),
    [
        (Mutual(), {"batch_invariance", "dim_size_invariance", "nan_isolation", "empty_sets"}),
        (LastDim(), {"ptr_only", "leading_dims"}),
        (Idle(), {"parameter_gradients", "reset_parameters"}),
        (Noisy(), {"deterministic"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Aggregation) else "",
)
def test_check_aggregation_finds(aggregation: Aggregation, at_least: set[str]) -> None:
    assert failures(check_aggregation(aggregation, 3)) >= at_least


def test_permutation_is_measured_or_demanded() -> None:
    class First(Aggregation):
        def forward(self, x, index=None, ptr=None, dim_size=None, dim=-2, max_num_elements=None):
            return x.new_zeros(dim_size, x.size(1)).index_copy(0, index.flip(0), x.flip(0))

    measured = {str(c): c for c in check_aggregation(First(), 3)}["permutation"]()
    assert isinstance(measured, dict) and measured["size 17"] > 0.1
    demanding = check_aggregation(First(), 3, permutation_invariant=True)
    assert "permutation" in failures(demanding)


def test_unclaimed_laws_are_measured() -> None:
    checks = {str(check): check for check in check_monoid(BinaryGRU(3))}
    bracketing, twice = checks["associative"](), checks["idempotent"]()
    assert isinstance(bracketing, float) and bracketing > 1e-3
    assert isinstance(twice, float) and twice > 1e-3
    assert checks["weigh"]() is None
    assert {str(c): c for c in check_monoid(Sum(3))}["associative"]() < 1e-12  # type: ignore[operator]


def test_expected_failures() -> None:
    reason = {"inverse": "it has none"}
    checks = {str(c): c for c in check_monoid(WrongInverse(3), expected_failures=reason)}
    found = checks["inverse"]()
    assert isinstance(found, dict) and found["expected_failure"] == "it has none"
    with pytest.raises(AssertionError, match=r"inverse: passes.*it has none"):
        {str(c): c for c in check_monoid(Sum(3), expected_failures=reason)}["inverse"]()
    with pytest.raises(ValueError, match=r"unknown checks \['invrese'\].*inverse"):
        check_monoid(Sum(3), expected_failures={"invrese": "typo"})


def test_messages_say_what_came() -> None:
    checks = {str(check): check for check in check_monoid(Difference(3))}
    with pytest.raises(AssertionError, match=r"on \d+ states: expected exact.*expected.*got"):
        checks["commutative"]()
    with pytest.raises(AssertionError, match=r"\[3\].*hidden|raised PicklingError|raised Attr"):
        {str(check): check for check in check_monoid(Unpicklable(3))}["pickle"]()


def test_subjects_are_left_alone() -> None:
    monoid = BinaryGRU(3)
    before = copy.deepcopy(monoid.state_dict())
    state = torch.get_rng_state()
    for check in check_monoid(monoid):
        check()
    assert all(torch.equal(monoid.state_dict()[name], value) for name, value in before.items())
    assert monoid.training and all(p.grad is None for p in monoid.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_relative_error() -> None:
    nan, inf = torch.nan, torch.inf
    assert relative_error(torch.tensor([1.0, 2.2]), torch.tensor([1.0, 2.0])) == pytest.approx(0.1)
    assert relative_error(torch.tensor([nan, inf, 1]), torch.tensor([nan, inf, 1])) == 0
    assert relative_error(torch.tensor([nan]), torch.tensor([inf])) == inf
    assert relative_error(torch.tensor([-inf]), torch.tensor([inf])) == inf
    assert relative_error(torch.tensor([1e-3]), torch.tensor([0.0])) == pytest.approx(1e-3)
    with pytest.raises(AssertionError, match=r"expected shape \(1,\), got \(2,\)"):
        relative_error(torch.zeros(2), torch.zeros(1))
