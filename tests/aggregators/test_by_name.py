"""Aggregations by name."""

from __future__ import annotations

import pytest
import torch

from lcm_graph.aggregators import AGGREGATIONS, BASELINES, aggregation_by_name
from tests.references import error, index_of

SETS = index_of((4, 1, 7))
REFERENCES = {
    "sum": lambda x: x.sum(0),
    "mean": lambda x: x.mean(0),
    "max": lambda x: x.amax(0),
    "min": lambda x: x.amin(0),
    "std": lambda x: x.var(0, correction=0).sqrt(),
    "softmax": lambda x: (x.softmax(0) * x).sum(0),
    "pna": lambda x: torch.cat([x.mean(0), x.var(0, correction=0).sqrt(), x.amax(0), x.amin(0)]),
    "topk": lambda x: torch.cat([x, x.new_zeros(1, 5)]).topk(2, dim=0).values.flatten(),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_closed_forms(name: str) -> None:
    x = torch.rand(12, 5) + 1
    expected = torch.stack([REFERENCES[name](x[SETS == s]) for s in range(3)])
    assert error(aggregation_by_name(name, 5, 9)(x, SETS), expected) <= 1e-5


LIFTED = {"lifted-sum": lambda x: x.sum(0), "lifted-max": lambda x: x.amax(0)}


@pytest.mark.parametrize("name", LIFTED)
def test_lifted_ones(name: str) -> None:
    aggregation, x = aggregation_by_name(name, 5, 9), torch.randn(12, 5)
    linear = aggregation.get_submodule("monoid.module.0")
    lifted = linear(x).relu()
    expected = torch.stack([LIFTED[name](lifted[SETS == s]) for s in range(3)])
    assert error(aggregation(x, SETS), expected) <= 1e-5


@pytest.mark.parametrize("name", sorted({*AGGREGATIONS} - {*REFERENCES, *LIFTED}))
def test_learned_ones_shuffle_and_give_the_channels_asked_for(name: str) -> None:
    aggregation = aggregation_by_name(name, 5, 9)
    x = torch.randn(12, 5)
    one, two = aggregation(x, SETS), aggregation(x, SETS)
    assert one.shape == (3, aggregation.out_channels if name == "mix" else 9)
    assert not torch.equal(one, two)
    assert torch.equal(aggregation.eval()(x, SETS), aggregation(x, SETS))


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_out_channels(name: str) -> None:
    aggregation = aggregation_by_name(name, 5, 9)
    assert aggregation.out_channels == aggregation(torch.randn(12, 5), SETS).size(1)


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_take_elements_in_any_order(name: str) -> None:
    aggregation, x = aggregation_by_name(name, 5, 9).eval(), torch.randn(12, 5)
    expected = aggregation(x, SETS)
    assert expected.shape == (3, 9)
    mixed = torch.cat([torch.arange(5, 12), torch.arange(5)])  # sets in another order
    assert error(aggregation(x[mixed], SETS[mixed]), expected) <= 1e-6


def test_pna_with_degree_scalers() -> None:
    """The scalers' formulas: log(d + 1) over its mean in training, and the inverse."""
    degree = torch.tensor([0, 2, 1, 0, 3])  # two nodes with one neighbour, one with two, …
    aggregation = aggregation_by_name("pna", 5, 9, degree=degree)
    x = torch.randn(12, 5)
    plain = aggregation_by_name("pna", 5, 9)(x, SETS)
    logs = torch.tensor([4.0, 1.0, 7.0]).log1p()
    mean = (torch.arange(5.0).log1p() * degree).sum() / degree.sum()
    by = (logs / mean).unsqueeze(1)
    expected = torch.cat([plain, plain * by, plain / by], dim=1)
    assert error(aggregation(x, SETS), expected) <= 1e-5
    assert aggregation.out_channels == 60
    assert repr(aggregation_by_name("max", 5, 9, degree=degree)) == repr(
        aggregation_by_name("max", 5, 9)
    )


@pytest.mark.parametrize("name", ["median", "", "LCM"])
def test_unknown_name(name: str) -> None:
    with pytest.raises(ValueError, match=rf"one of sum, mean.*\(got '{name}'\)"):
        aggregation_by_name(name, 5, 9)
