"""LCMAggregation beside PyG's, whose checkpoints it loads."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.nn import aggr as pyg

from lcm_graph.aggregators import LCMAggregation, MonoidAggregation
from lcm_graph.monoids import BinaryGRU, BinaryMLP, Mean, Sum, Symmetrized
from tests.monoids.shipped import tilted
from tests.references import error, fold_sets, gradients, gru_pair, index_of

TOLERANCE = 1e-10  # float64


@pytest.mark.parametrize("project", [True, False])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 16, 17])
def test_pygs_numbers_where_pyg_pads_nothing(n: int, project: bool) -> None:
    theirs = pyg.LCMAggregation(6 if project else 4, 4, project=project).double()
    ours = LCMAggregation(6 if project else 4, 4, project=project).double()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(5 * n, ours.in_channels, dtype=torch.float64, requires_grad=True)
    index = index_of((n,) * 5)
    out, expected = ours(x, index), theirs(x, index)
    assert error(out, expected) <= TOLERANCE
    names = [name for name, _ in theirs.named_parameters()]
    got = gradients(out, [x, *(ours.get_parameter(name) for name in names)])
    for one, wanted in zip(got, gradients(expected, [x, *theirs.parameters()]), strict=True):
        assert error(one, wanted) <= TOLERANCE


def test_ragged_sets_fold_alone() -> None:
    ours = LCMAggregation(6, 4).double()
    index = index_of((4, 0, 7, 1))[torch.randperm(12)]
    x = torch.randn(12, 6, dtype=torch.float64, requires_grad=True)
    assert ours.lin is not None
    assert isinstance(ours.gru_cell, BinaryGRU)
    empty = ours.gru_cell.empty.unsqueeze(0)
    expected = fold_sets(gru_pair(ours.gru_cell), ours.lin(x).relu(), index, 5, empty)
    out = ours(x, index, dim_size=5)
    assert error(out, expected) <= TOLERANCE
    inputs = [x, *ours.parameters()]
    for one, wanted in zip(gradients(out, inputs), gradients(expected, inputs), strict=True):
        assert error(one, wanted) <= TOLERANCE


@pytest.mark.parametrize("nested", [False, True])
def test_state_dict_keys(nested: bool) -> None:
    theirs: torch.nn.Module = pyg.LCMAggregation(6, 4)
    ours: torch.nn.Module = LCMAggregation(6, 4)
    if nested:
        theirs, ours = torch.nn.ModuleList([theirs]), torch.nn.ModuleList([ours])
    prefix = "0." if nested else ""
    extra = {f"{prefix}gru_cell.empty"}
    assert set(ours.state_dict()) == set(theirs.state_dict()) | extra
    given = theirs.state_dict()
    ours.load_state_dict(given)
    assert set(given) == set(theirs.state_dict()), "the caller's dictionary was written to"
    assert not ours.state_dict()[f"{prefix}gru_cell.empty"].any()


@pytest.mark.parametrize("key", ["lin.bias", "gru_cell.weight_hh", "gru_cell.weight_ih"])
def test_other_missing_keys_are_reported(key: str) -> None:
    state = pyg.LCMAggregation(6, 4).state_dict()
    del state[key]
    with pytest.raises(RuntimeError, match=key):
        LCMAggregation(6, 4).load_state_dict(state)


def test_learned_empty_is_kept_by_its_own_checkpoint() -> None:
    one, other = LCMAggregation(6, 4), LCMAggregation(6, 4)
    torch.nn.init.constant_(one.gru_cell.empty, 2.0)  # type: ignore[arg-type]
    other.load_state_dict(one.state_dict())
    assert other(torch.zeros(0, 6), torch.zeros(0, dtype=torch.long), dim_size=1).tolist() == [
        [2.0] * 4
    ]


@pytest.mark.parametrize(
    "operator", [BinaryMLP, BinaryMLP(4, hidden=3), Symmetrized(tilted, 4), Sum, Mean(4)], ids=repr
)
def test_operators(operator) -> None:
    """Any monoid will do: it folds what the projection gives."""
    ours = LCMAggregation(6, 4, operator=operator)
    x, index = torch.randn(12, 6), index_of((4, 7, 1))
    assert ours.lin is not None
    expected = MonoidAggregation(ours.monoid)(ours.lin(x).relu(), index)
    assert error(ours(x, index), expected) == 0


def test_repr_names_what_is_not_the_default() -> None:
    assert repr(LCMAggregation(6, 4)) == "LCMAggregation(6, 4, project=True)"
    text = repr(LCMAggregation(4, 4, False, operator=BinaryMLP, order="canonical"))
    assert (
        text
        == "LCMAggregation(4, 4, project=False, operator=BinaryMLP(4, hidden=8), order='canonical')"
    )
