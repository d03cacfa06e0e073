"""Random trees: each is a bracketing of its set, and folds along it are what they say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lcm_graph.kernels import backend
from lcm_graph.monoids import BinaryGRU, Sum
from lcm_graph.reduce import FoldPlan, segment_reduce, tree_reduce
from lcm_graph.reduce.bracketing import random_rounds
from tests.references import GeneralGRU, Ordered, error, gradients, gru_pair, index_of, ptr_of

SIZES = (4, 0, 1, 2, 3, 16, 17, 100)


def spans_after(rounds, ptr: Tensor) -> tuple[list[tuple[int, int]], list[int]]:
    """Merge spans of neighbours by hand; the spans that are left and their depths."""
    spans = {p: (p, p + 1) for p in range(int(ptr[-1]))}
    depths = dict.fromkeys(spans, 0)
    for left, right in rounds:
        used: set[int] = set()
        for a, b in zip(left.tolist(), right.tolist(), strict=True):
            assert not {a, b} & used, "an operand is used twice in a round"
            used |= {a, b}
            assert spans[a][1] == spans[b][0], "operands are neighbours"
            spans[a] = (spans[a][0], spans.pop(b)[1])
            depths[a] = 1 + max(depths[a], depths.pop(b))
    return sorted(spans.values()), [depths[p] for p in sorted(depths)]


@pytest.mark.parametrize("seed", range(5))
def test_one_value_of_each_set_is_left(seed: int) -> None:
    ptr = ptr_of(SIZES)
    spans, _ = spans_after(random_rounds(ptr, torch.Generator().manual_seed(seed)), ptr)
    expected = [(a, b) for a, b in zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True) if a < b]
    assert spans == expected


def test_depths_run_from_balanced_to_combs_and_stay_bounded_for_large_sets() -> None:
    generator = torch.Generator().manual_seed(0)
    ptr = ptr_of([16] * 2000)
    _, depths = spans_after(random_rounds(ptr, generator), ptr)
    assert min(depths) == 4 and max(depths) == 15
    assert 5 < sum(depths) / len(depths) < 12
    ptr = ptr_of([1000] * 20)
    _, depths = spans_after(random_rounds(ptr, generator), ptr)
    assert 10 <= min(depths) and max(depths) < 120


def test_no_sets_and_no_elements() -> None:
    assert random_rounds(torch.tensor([0])) == []
    assert random_rounds(torch.tensor([0, 0, 1])) == []


def test_the_generator_decides() -> None:
    plan = FoldPlan.from_ptr(ptr_of(SIZES))

    def lefts(seed: int) -> list[list[int]]:
        drawn = plan.bracketed(torch.Generator().manual_seed(seed))
        return [level.left.tolist() for level in drawn.levels]

    before = torch.get_rng_state()
    assert lefts(1) == lefts(1) != lefts(2)
    assert torch.equal(torch.get_rng_state(), before)
    assert plan.is_canonical and plan.depth == 7, "the plan itself stays canonical"


def by_hand(combine, x: Tensor, plan: FoldPlan, empty: Tensor) -> Tensor:
    values = dict(enumerate(x.split(1)))
    for left, right in plan.levels:
        made = [
            combine(values[a], values[b])
            for a, b in zip(left.tolist(), right.tolist(), strict=True)
        ]
        values.update(zip(left.tolist(), made, strict=True))
    roots = iter(plan.roots.tolist())
    return torch.cat([values[next(roots)] if size else empty for size in plan.sizes.tolist()])


@pytest.mark.parametrize("recompute", [True, False], ids=["recompute", "autograd"])
@pytest.mark.parametrize("kind", ["gru", "general gru", "ordered"])
@pytest.mark.parametrize("gathered", [False, True], ids=["own", "gathered"])
def test_values_and_gradients(kind: str, recompute: bool, gathered: bool) -> None:
    dtype = torch.float64
    monoid = {"gru": BinaryGRU, "general gru": GeneralGRU, "ordered": Ordered}[kind](4).to(dtype)
    combine = gru_pair(monoid) if isinstance(monoid, BinaryGRU) else monoid.combine
    index = index_of(SIZES)[torch.randperm(sum(SIZES))]
    plan = FoldPlan.from_index(index, len(SIZES)).bracketed()
    x = torch.randn(sum(SIZES), 4, dtype=dtype, requires_grad=True)
    elements = x
    if gathered:
        source = torch.randint(0, 9, (sum(SIZES),))
        x = torch.randn(9, 4, dtype=dtype, requires_grad=True)
        elements = x[source]
    expected = by_hand(combine, elements, plan, torch.zeros(1, 4, dtype=dtype))
    at_hand = plan.gather(source, 9) if gathered else plan
    states = tree_reduce(monoid, monoid.lift(x), at_hand, recompute=recompute)
    out = monoid.lower(states)
    assert error(out, expected) < 1e-12
    inputs = [x, *(p for name, p in monoid.named_parameters() if name != "empty")]
    for actual, wanted in zip(gradients(out, inputs), gradients(expected, inputs), strict=True):
        assert error(actual, wanted) < 1e-12


def test_triton_folds_them_as_torch_does() -> None:
    monoid = BinaryGRU(16)
    sizes = (4, 0, 1, 2, 3, 16, 17)
    plan = FoldPlan.from_ptr(ptr_of(sizes)).bracketed(torch.Generator().manual_seed(0))
    assert plan.depth > 5, "deeper than the canonical tree"
    x = torch.randn(sum(sizes), 16, requires_grad=True)
    found = []
    for name in ("torch", "triton"):
        with backend(name):
            out = monoid.lower(segment_reduce(monoid, monoid.lift(x), plan=plan))
            found.append([out, *gradients(out, [x, *monoid.parameters()])])
    for actual, wanted in zip(*found, strict=True):
        assert error(actual, wanted) < 1e-5


def test_an_associative_monoid_does_not_mind() -> None:
    x = torch.randn(sum(SIZES), 3, dtype=torch.float64)
    plan = FoldPlan.from_ptr(ptr_of(SIZES))
    canonical, random = (tree_reduce(Sum(3), x, p) for p in (plan, plan.bracketed()))
    assert error(random, canonical) < 1e-14


def test_plans_made_from_it_are_canonical_again() -> None:
    drawn = FoldPlan.from_ptr(ptr_of(SIZES)).bracketed()
    assert not drawn.is_canonical and not drawn.gather(torch.zeros(143).long(), 1).is_canonical
    for plan in (drawn.shuffled(), drawn.repeat(2), drawn.to("cpu")):
        assert plan.is_canonical and plan.depth == 7
