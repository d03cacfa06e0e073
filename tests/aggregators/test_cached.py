"""Plans that are kept from call to call."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from lcm_graph.aggregators import (
    FoldAggregation,
    LCMAggregation,
    MonoidAggregation,
    RecurrentAggregation,
)
from lcm_graph.monoids import TopK
from lcm_graph.reduce import FoldPlan, segment_reduce
from tests.references import error, index_of

INDEX = index_of((3, 4, 0, 5))[torch.randperm(12, generator=torch.Generator().manual_seed(2))]


def makers() -> list[FoldAggregation]:
    return [
        LCMAggregation(3, 4, cached=True),
        MonoidAggregation(TopK(3, 2), cached=True),
        RecurrentAggregation(3, 4, cached=True),
    ]


@pytest.mark.parametrize("number", range(3))
def test_plans_once(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    aggregation = makers()[number]
    made: list[int] = []
    init = FoldPlan.__init__

    def counting(self, *args, **kwargs):
        made.append(1)
        init(self, *args, **kwargs)

    monkeypatch.setattr(FoldPlan, "__init__", counting)
    first = aggregation(torch.randn(12, 3), INDEX)
    assert made == [1]
    x = torch.randn(12, 3)
    second = aggregation(x, INDEX)
    assert made == [1]
    assert first.shape == second.shape
    aggregation.cached = False
    fresh = copy.deepcopy(aggregation)
    fresh._plan = None
    assert error(second, fresh(x, INDEX)) == 0


@pytest.mark.parametrize("n, dim_size", [(11, 4), (12, 5)], ids=["elements", "dim_size"])
def test_changed_sizes_are_refused(n: int, dim_size: int) -> None:
    aggregation = LCMAggregation(3, 4, cached=True)
    aggregation(torch.randn(12, 3), INDEX)
    with pytest.raises(ValueError, match=r"cached=True.*12 elements in 4 sets.*clear_plan"):
        aggregation(torch.randn(n, 3), INDEX[:n], dim_size=dim_size)


def test_reset_forgets() -> None:
    aggregation = LCMAggregation(3, 4, cached=True)
    aggregation(torch.randn(12, 3), INDEX)
    aggregation.reset_parameters()
    assert aggregation(torch.randn(5, 3), torch.tensor([0, 1, 1, 1, 6])).shape == (7, 4)


def test_other_sets_of_the_same_sizes_are_refused() -> None:
    aggregation = LCMAggregation(3, 4, cached=True)
    x = torch.randn(12, 3)
    aggregation(x, INDEX)
    with pytest.raises(ValueError, match=r"other sets.*clear_plan"):
        aggregation(x, INDEX.flip(0))
    ptr = torch.tensor([0, 3, 7, 7, 12])
    with pytest.raises(ValueError, match=r"other sets"):
        aggregation(x, INDEX.sort().values)
    before = copy.deepcopy(aggregation.state_dict())
    aggregation.clear_plan()
    fresh = LCMAggregation(3, 4)
    fresh.load_state_dict(aggregation.state_dict())
    assert error(aggregation(x, ptr=ptr), fresh(x, ptr=ptr)) == 0
    assert all(torch.equal(t, before[key]) for key, t in aggregation.state_dict().items())
    aggregation.cached = False
    assert error(aggregation(x, INDEX), fresh(x, INDEX)) == 0


def test_copies_and_checkpoints_leave_the_plan_behind() -> None:
    aggregation = LCMAggregation(3, 4, cached=True)
    x = torch.randn(12, 3)
    expected = aggregation(x, INDEX)
    for other in (copy.deepcopy(aggregation), pickle.loads(pickle.dumps(aggregation))):
        assert other._plan is None
        assert error(other(x, INDEX), expected) == 0
    assert not any("plan" in key for key in aggregation.state_dict())


def test_a_plan_made_in_inference_mode_serves_in_training() -> None:
    aggregation = LCMAggregation(3, 4, cached=True)
    x = torch.randn(12, 3)
    with torch.inference_mode():
        aggregation(x, INDEX.clone())
    aggregation(x, INDEX).sum().backward()
    assert aggregation.gru_cell.weight_ih.grad is not None
    plan = FoldPlan.from_index(INDEX)
    with torch.inference_mode():
        segment_reduce(aggregation.monoid, aggregation.monoid.lift(torch.randn(12, 4)), plan=plan)
    y = torch.randn(12, 4, requires_grad=True)
    states = segment_reduce(aggregation.monoid, aggregation.monoid.lift(y), plan=plan)
    aggregation.monoid.lower(states).sum().backward()
    assert y.grad is not None
