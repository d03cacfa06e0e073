"""The associativity error of whatever a model folds with."""

import pytest
from torch_geometric.nn.aggr import Aggregation

from lcm_graph import LCMAggregation, MonoidAggregation
from lcm_graph.datasets import IntegerSets
from lcm_graph.monoids import BinaryMLP, Product, Sum
from lcm_graph.reduce import FoldPlan
from lcm_graph.regularizers import associativity_error
from lcm_graph.study import associativity
from lcm_graph.study.associativity import tree_associativity_error
from lcm_graph.training import SetModel


@pytest.fixture
def batch():
    return next(IntegerSets("second_minimum", 6, bits=3).batches(6))


def test_is_that_of_the_states_that_are_folded(batch):
    aggr = LCMAggregation(8, 8, order="random", bracketing="random")
    model = SetModel(aggr, 3, 8).eval()
    assert aggr.lin is not None
    states = aggr.monoid.lift(aggr.lin(model.encode(model.embed(batch.x))).relu())
    expected = associativity_error(aggr.monoid, states, FoldPlan.from_ptr(batch.ptr))
    assert tree_associativity_error(model, batch) == pytest.approx(expected) and expected > 0
    assert "fold_with" not in vars(aggr)


def test_of_a_product_the_worst(batch):
    one, other = BinaryMLP(8), BinaryMLP(8)
    model = SetModel(MonoidAggregation(Product(Sum(8), one, other)), 3, 8).eval()
    x = model.encode(model.embed(batch.x))
    plan = FoldPlan.from_ptr(batch.ptr)
    errors = [associativity_error(monoid, monoid.lift(x), plan) for monoid in (one, other)]
    assert tree_associativity_error(model, batch) == pytest.approx(max(errors))


@pytest.mark.parametrize("name", ["sum", "gru", "topk"])
def test_none_where_there_is_none(batch, name):
    assert tree_associativity_error(SetModel(name, 3, 8).eval(), batch) is None


@pytest.mark.parametrize("error", [float("nan"), float("inf")])
def test_none_where_it_is_no_finite_number(batch, monkeypatch, error):
    monkeypatch.setattr(associativity, "associativity_error", lambda *args: error)
    assert tree_associativity_error(SetModel("lcm", 3, 8).eval(), batch) is None


def test_an_error_leaves_the_aggregation_as_it_was(batch):
    class Broken(Aggregation):
        def forward(self, x, **kwargs):
            raise RuntimeError("broken")

    model = SetModel(LCMAggregation(8, 8), 3, 8).eval()
    model.decode = Broken()
    with pytest.raises(RuntimeError, match="broken"):
        tree_associativity_error(model, batch)
    assert "fold_with" not in vars(model.aggr)
