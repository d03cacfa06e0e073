"""The orders in which elements are folded."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch_geometric.nn.aggr import Aggregation

from lcm_graph.aggregators import LCMAggregation, MonoidAggregation, RecurrentAggregation
from lcm_graph.aggregators.order import canonical_ranks
from tests.references import Ordered, index_of

MAKERS: dict[str, Callable[[str], Aggregation]] = {
    "lcm": lambda order: LCMAggregation(3, 4, order=order),
    "gru": lambda order: RecurrentAggregation(3, 4, order=order),
    "monoid": lambda order: MonoidAggregation(Ordered(3), order=order),
}
INDEX = index_of((9, 0, 1, 30))


def awkward() -> Tensor:
    """Duplicates, both zeros, infinities and NaNs of either sign."""
    x = torch.randint(-1, 2, (40, 3)).float() * torch.where(torch.rand(40, 3) < 0.5, -1, 1)
    x[3, 0], x[14, 1], x[20] = torch.nan, -torch.nan, torch.inf
    x[21], x[22] = x[20], x[3]
    return x


def bits(x: Tensor) -> list[int]:
    return x.detach().contiguous().view(torch.int32).flatten().tolist()


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
@pytest.mark.parametrize("special", [False, True], ids=["normal", "awkward"])
def test_canonical_is_independent_of_order_to_the_last_bit(make, special: bool) -> None:
    aggregation = make("canonical")
    x = awkward() if special else torch.randn(40, 3)
    expected = aggregation(x, INDEX)
    for seed in range(5):
        order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
        assert bits(aggregation(x[order], INDEX[order])) == bits(expected)
    within = INDEX.argsort(stable=True)
    for s, rows in enumerate(within.split([9, 0, 1, 30])):
        within[INDEX == s] = rows.flip(0)
    assert bits(aggregation(x[within], INDEX)) == bits(expected)


def test_canonical_gradients_follow_their_elements() -> None:
    aggregation = LCMAggregation(3, 4, order="canonical")
    x = torch.randn(40, 3)
    grads = []
    order = torch.randperm(40)
    for rows in (torch.arange(40), order):
        elements = x[rows].requires_grad_()
        aggregation(elements, INDEX[rows]).square().sum().backward()
        assert elements.grad is not None
        grads.append(elements.grad)
    assert torch.equal(grads[1], grads[0][order])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_ranks_sort_like_numbers(dtype: torch.dtype) -> None:
    column = torch.tensor([3.5, -2.0, 0.0, -0.0, torch.inf, -torch.inf, -2.5, 3.5], dtype=dtype)
    assert canonical_ranks(column[:, None]).tolist() == [5, 2, 4, 3, 6, 0, 1, 5]
    two = torch.tensor([[1.0, 2.0], [1.0, -2.0], [0.0, 9.0]], dtype=dtype)
    assert canonical_ranks(two).tolist() == [2, 1, 0]
    weight = torch.tensor([0.5, 0.0])
    assert canonical_ranks(two[[0, 0]], weight).tolist() == [1, 0]
    nan = torch.tensor([[torch.nan], [torch.inf]], dtype=dtype)
    assert canonical_ranks(nan).tolist() == [1, 0]


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_random_shuffles_within_sets_while_training(make) -> None:
    aggregation = make("random")
    given = make("given")
    given.load_state_dict(aggregation.state_dict())
    x = torch.randn(40, 3)
    expected = given(x, INDEX)

    one, two = aggregation(x, INDEX), aggregation(x, INDEX)
    assert not torch.allclose(one[[0, 3]], two[[0, 3]])
    assert torch.allclose(one[[1, 2]], expected[[1, 2]])  # nothing to shuffle
    torch.manual_seed(3)
    again = aggregation(x, INDEX)
    torch.manual_seed(3)
    assert torch.equal(aggregation(x, INDEX), again)

    aggregation.eval()
    assert torch.equal(aggregation(x, INDEX), expected)


def test_random_draws_all_orders() -> None:
    """A set of three has six orders; a right operand is told from a left one."""
    aggregation = MonoidAggregation(Ordered(3), order="random")
    x = torch.randn(3, 3)
    outputs = {tuple(bits(aggregation(x))) for _ in range(100)}
    assert len(outputs) == 6
