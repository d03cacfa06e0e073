"""Regularisers as keywords of aggregators: when they are computed and how they are handed out."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from torch_geometric.nn import SAGEConv

from lcm_graph import LCMAggregation, MonoidAggregation, RecurrentAggregation, regularization
from lcm_graph.aggregators import base
from lcm_graph.monoids import BinaryGRU, Product, Sum
from lcm_graph.reduce import FoldPlan
from lcm_graph.regularizers import associativity_loss
from tests.references import Ordered, error

INDEX = torch.tensor([0, 1, 1, 0, 1, 1, 1, 0, 3])


def test_the_loss_is_that_of_the_states_that_were_folded() -> None:
    aggr = LCMAggregation(4, 6, associativity=0.5)
    assert aggr.lin is not None
    x = torch.randn(9, 4)
    aggr(x, INDEX)
    loss = aggr.regularization()
    states = aggr.monoid.lift(aggr.lin(x).relu())
    expected = 0.5 * associativity_loss(aggr.monoid, states, FoldPlan.from_index(INDEX))
    assert error(loss, expected) < 1e-6
    loss.backward()
    for name in ("gru_cell.weight_hh", "lin.weight"):
        grad = aggr.get_parameter(name).grad
        assert grad is not None and grad.abs().sum() > 0, name


def test_handed_out_once_and_summed_over_calls() -> None:
    aggr = MonoidAggregation(BinaryGRU(4), associativity=1.0)
    x = torch.randn(9, 4)
    aggr(x, INDEX)
    once = aggr.regularization()
    assert aggr.regularization() == 0.0
    aggr(x, INDEX)
    aggr(x, INDEX)
    assert error(aggr.regularization(), 2 * once) < 1e-6


def test_only_while_training() -> None:
    aggr = LCMAggregation(4, 4, associativity=1.0, bracketing="random").eval()
    plain = LCMAggregation(4, 4).eval()
    plain.load_state_dict(aggr.state_dict())
    x = torch.randn(9, 4)
    assert torch.equal(aggr(x, INDEX), plain(x, INDEX)), "the canonical trees"
    assert aggr.regularization() == 0.0


def test_random_bracketing_while_training() -> None:
    aggr = LCMAggregation(4, 4, project=False, bracketing="random")
    x = torch.randn(64, 4)
    index = torch.zeros(64, dtype=torch.long)
    torch.manual_seed(0)
    outs = [aggr(x, index) for _ in range(4)]
    assert all(error(a, b) > 1e-3 for a, b in pairwise(outs))
    torch.manual_seed(0)
    assert torch.equal(aggr(x, index), outs[0])


def test_random_bracketing_with_leading_dimensions_a_source_and_cached_plans() -> None:
    aggr = LCMAggregation(4, 4, bracketing="random", cached=True)
    x = torch.randn(2, 5, 4)
    source = torch.randint(0, 5, (9,))
    for _ in range(2):
        assert aggr(x, INDEX, source=source, dim_size=4).shape == (2, 4, 4)
    assert aggr._plan is not None and aggr._plan.is_canonical


def test_of_a_whole_model() -> None:
    convs = [SAGEConv(4, 4, aggr=LCMAggregation(4, 4, associativity=a)) for a in (1.0, 0.0, 2.0)]
    model = torch.nn.ModuleList([*convs, torch.nn.Linear(4, 4)])
    assert regularization(model) == 0.0
    x, edges = torch.randn(5, 4), torch.randint(0, 5, (2, 40))
    for conv in convs:
        x = conv(x, edges)
    total = regularization(model)
    assert total > 0 and regularization(model) == 0.0
    total.backward()
    assert convs[0].aggr_module.monoid.weight_ih.grad is not None


def test_factors_of_a_product_without_the_law_alone() -> None:
    aggr = MonoidAggregation(Product(Sum(4), BinaryGRU(4)), associativity=1.0)
    alone = MonoidAggregation(aggr.monoid.factors[1], associativity=1.0)
    x = torch.randn(9, 4)
    aggr(x, INDEX)
    alone(x, INDEX)
    assert error(aggr.regularization(), alone.regularization()) < 1e-6


def test_commutativity_of_an_operator_that_is_not() -> None:
    aggr = MonoidAggregation(Ordered(4), commutativity=1.0)
    aggr(torch.randn(9, 4), INDEX)
    assert aggr.regularization() > 0


def test_losses_that_nobody_asks_for_are_an_error(monkeypatch) -> None:
    monkeypatch.setattr(base, "MOST_PENALTIES", 3)
    aggr = MonoidAggregation(BinaryGRU(4), associativity=1.0)
    x = torch.randn(9, 4)
    for _ in range(3):
        aggr(x, INDEX)
    with pytest.raises(RuntimeError, match=r"add aggr.regularization\(\) to each training loss"):
        aggr(x, INDEX)
    aggr(x, INDEX)  # and it starts anew


def test_copies_and_pickles_hold_no_graphs() -> None:
    aggr = RecurrentAggregation(4, 4, swap=1.0)
    aggr(torch.randn(9, 4), INDEX)
    for twin in (copy.deepcopy(aggr), pickle.loads(pickle.dumps(aggr))):
        assert twin.regularization() == 0.0 and twin.swap == 1.0
    assert aggr.regularization() > 0


@pytest.mark.parametrize("name", ["associativity", "commutativity", "swap"])
@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf"), "1"])
def test_bad_weights(name: str, weight: Any) -> None:
    make: Any = RecurrentAggregation if name == "swap" else LCMAggregation
    with pytest.raises(ValueError, match=f"'{name}' must be a number from 0 up"):
        make(4, 4, **{name: weight})


def test_bad_bracketing() -> None:
    with pytest.raises(ValueError, match="'bracketing' must be one of canonical, random"):
        LCMAggregation(4, 4, bracketing="left")


def test_repr_tells_what_is_not_the_default() -> None:
    aggr = LCMAggregation(4, 4, order="random", bracketing="random", associativity=0.5)
    settings = "order='random', bracketing='random', associativity=0.5"
    assert repr(aggr) == f"LCMAggregation(4, 4, project=True, {settings})"
    assert repr(RecurrentAggregation(4, 4, swap=2.0)).endswith("cell='gru', swap=2.0)")


def test_checkpointed_calls_count_once() -> None:
    aggr = MonoidAggregation(BinaryGRU(4), associativity=1.0)
    x = torch.randn(9, 4, requires_grad=True)
    for _ in range(2):
        out = checkpoint(aggr, x, INDEX, use_reentrant=False)
        once = aggr.regularization()
        (out.sum() + once).backward()
    aggr(x, INDEX)
    assert error(once, aggr.regularization()) < 1e-6


def test_without_gradients_nothing_is_computed() -> None:
    for aggr in (LCMAggregation(4, 4, associativity=1.0), RecurrentAggregation(4, 4, swap=1.0)):
        with torch.no_grad():
            aggr(torch.randn(9, 4), INDEX)
        assert aggr.regularization() == 0


def test_swap_and_dropout() -> None:
    with pytest.raises(ValueError, match="'swap' must be 0 with 'dropout'"):
        RecurrentAggregation(4, 4, swap=1.0, num_layers=2, dropout=0.5)
    assert "num_layers=2, dropout=0.5" in repr(
        RecurrentAggregation(4, 4, num_layers=2, dropout=0.5)
    )
