"""Elements that come, change and go, against a fold of those that are there."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lcm_graph.monoids import BinaryGRU, Max, Monoid, Sum
from lcm_graph.reduce import FoldTree, segment_reduce
from lcm_graph.reduce.dynamic.layout import Layout
from tests.monoids.shipped import MONOIDS
from tests.reduce.fragile import Fails, behind_a_layer
from tests.references import Ordered, error

D, SETS = 3, 4


class Gaps(Monoid):
    """An operator that is neither commutative nor associative, with an identity: absence."""

    associative = False

    def __init__(self, commutative: bool) -> None:
        super().__init__(D)
        self.commutative = commutative  # type: ignore[misc]
        self.inner = Ordered(D)

    def lift(self, x: Tensor) -> Tensor:
        return torch.cat([x, torch.ones_like(x[:, :1])], dim=1)

    def combine(self, left: Tensor, right: Tensor) -> Tensor:
        a, b = left[:, D:], right[:, D:]
        both = self.inner.combine(left[:, :D], right[:, :D])
        value = torch.where(a * b == 1, both, torch.where(a == 1, left[:, :D], right[:, :D]))
        return torch.cat([value, torch.maximum(a, b)], dim=1)

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> Tensor:
        return torch.zeros(n, D + 1, dtype=dtype, device=device)

    def lower(self, state: Tensor) -> Tensor:
        return state[:, :D]


class Model:
    """The obvious way: a list for each set, with gaps, folded as a whole."""

    def __init__(self, monoid: Monoid) -> None:
        self.monoid = monoid
        self.sets: list[list[Tensor | None]] = [[] for _ in range(SETS)]

    def fold(self) -> Tensor:
        parts, index = [], []
        for number, elements in enumerate(self.sets):
            for element in elements:
                if element is None:
                    parts.append(self.monoid.identity(1, dtype=torch.float64))
                else:
                    parts.append(self.monoid.lift(element[None]))
                index.append(number)
        if not parts:
            parts = [self.monoid.identity(0, dtype=torch.float64)]
        where = torch.tensor(index, dtype=torch.int64)
        return self.monoid.lower(
            segment_reduce(self.monoid, torch.cat(parts), where, dim_size=SETS)
        )


moves = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.lists(st.integers(0, SETS - 1), max_size=12)),
        st.tuples(st.sampled_from(["change", "remove"]), st.lists(st.integers(0, 50), max_size=6)),
    ),
    max_size=8,
)


@pytest.mark.parametrize("commutative", [True, False])
@given(moves)
def test_any_moves(commutative: bool, moves: list[tuple[str, list[int]]]) -> None:
    torch.manual_seed(0)
    monoid = Gaps(commutative).double()
    none = torch.empty(0, D, dtype=torch.float64)
    tree = FoldTree(monoid, none, torch.empty(0, dtype=torch.int64), dim_size=SETS)
    model = Model(monoid)
    where: dict[int, tuple[int, int]] = {}  # of the elements that are there
    for kind, numbers in moves:
        if kind == "insert":
            x = torch.randn(len(numbers), D, dtype=torch.float64)
            given_numbers = tree.insert(x, torch.tensor(numbers, dtype=torch.int64)).tolist()
            for number, own, element in zip(given_numbers, numbers, x, strict=True):
                place = int(tree.places[number])
                assert int(tree.index[number]) == own
                elements = model.sets[own]
                if place < len(elements):
                    assert commutative and elements[place] is None
                    elements[place] = element
                else:
                    assert place == len(elements) and not (commutative and None in elements)
                    elements.append(element)
                where[number] = (own, place)
            continue
        chosen = sorted({number for number in numbers if number in where})
        elements_chosen = torch.tensor(chosen, dtype=torch.int64)
        x = torch.randn(len(chosen), D, dtype=torch.float64)
        if kind == "change":
            tree.change(elements_chosen, x)
        else:
            tree.remove(elements_chosen)
        for number, element in zip(chosen, x, strict=True):
            own, place = where[number]
            model.sets[own][place] = element if kind == "change" else None
            if kind == "remove":
                del where[number]
    assert error(tree.result(), model.fold()) <= 1e-12
    assert tree.num_elements == len(where)


@pytest.mark.parametrize("name", MONOIDS)
def test_every_monoid(name: str) -> None:
    """Inserted in any batches, the elements are folded as all at once."""
    monoid = MONOIDS[name]().double().eval()
    x = torch.randn(60, int(monoid.channels or 0), dtype=torch.float64)
    index = torch.arange(60) ** 2 % 5
    tree = FoldTree(monoid, x[:20], index[:20])
    for number in range(20, 30):
        tree.insert(x[number : number + 1], index[number : number + 1])
    tree.insert(x[30:], index[30:])
    expected = monoid.lower(segment_reduce(monoid, monoid.lift(x), index, dim_size=5))
    assert error(tree.result(), expected) <= 1e-9
    tree.change(torch.arange(60), x.flip(0))
    expected = monoid.lower(segment_reduce(monoid, monoid.lift(x.flip(0)), index, dim_size=5))
    assert error(tree.result(), expected) <= 1e-9
    tree.remove(torch.arange(60)[index == 1])
    expected[1] = monoid.lower(monoid.identity(1, dtype=torch.float64))[0]
    assert error(tree.result(), expected) <= 1e-9


def test_removed_from_an_exact_monoid() -> None:
    """What is left is folded as if the others had never been; nothing is taken back."""
    x = torch.randn(100, D)
    x[::2] *= 1e8
    tree = FoldTree(Sum(D), x)
    tree.remove(torch.arange(0, 100, 2))
    assert error(tree.result(), x[1::2].sum(0, keepdim=True)) <= 1e-5


def test_a_change_costs_the_logarithm() -> None:
    combined = []

    class Counted(Ordered):
        def combine(self, left: Tensor, right: Tensor) -> Tensor:
            combined.append(left.size(0))
            return super().combine(left, right)

    tree = FoldTree(Counted(D), torch.randn(1000, D))
    assert sum(combined) == 999
    for elements in ([17], [500, 501, 502, 503]):
        combined.clear()
        tree.change(torch.tensor(elements), torch.randn(len(elements), D))
        assert sum(combined) <= 10 + len(elements)


def test_some_sets_and_sets_without_elements() -> None:
    tree = FoldTree(Max(2), torch.ones(2, 2), torch.tensor([3, 3]), dim_size=6)
    assert tree.result(torch.tensor([3, 0, 5, 3]))[:, 0].tolist() == [1, 0, 0, 1]
    tree.insert(2 * torch.ones(1, 2), torch.tensor([7]))
    assert tree.result().shape == (8, 2) and tree.num_sets == 8
    with pytest.raises(ValueError, match="from 0 to 7"):
        tree.result(torch.tensor([8]))


def test_other_parameters() -> None:
    monoid, x = BinaryGRU(D), torch.randn(21, D)
    tree = FoldTree(monoid, x)
    monoid.reset_parameters()
    tree.refold()
    assert error(tree.result(), monoid.lower(segment_reduce(monoid, monoid.lift(x)))) <= 1e-5
    assert not tree.result().requires_grad and not tree.state().value.requires_grad


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_operator_that_fails_changes_nothing(after: int) -> None:
    """Neither answers nor what is known of elements, whatever was to be changed."""
    monoid = Fails(D).double()
    x = torch.randn(20, D, dtype=torch.float64)
    tree = FoldTree(monoid, x, torch.arange(20) % 3)
    tree.remove(torch.tensor([4]))
    before, index, places = tree.result(), tree.index, tree.places
    for change in (
        lambda: tree.insert(x[:9], torch.arange(9) % 3),
        lambda: tree.remove(torch.tensor([0, 1, 2])),
        lambda: tree.change(torch.tensor([5, 6, 7]), x[:3]),
        tree.refold,
    ):
        monoid.after = after
        with pytest.raises(RuntimeError, match="no"):
            change()
        monoid.after = None
        assert torch.equal(tree.result(), before) and tree.num_elements == 19
        assert torch.equal(tree.index, index) and torch.equal(tree.places, places)
    tree.insert(x[:1], torch.tensor([1]))
    assert tree.num_elements == 20


def test_the_first_elements_fail() -> None:
    monoid = Fails(D)
    tree = FoldTree(monoid, torch.ones(0, D), torch.empty(0).long(), dim_size=2)
    monoid.after = 0
    with pytest.raises(RuntimeError, match="no"):
        tree.insert(torch.ones(3, D))
    monoid.after = None
    tree.insert(torch.ones(1, D))
    assert tree.num_elements == 1 and torch.equal(tree.result()[0], torch.ones(D))


def test_in_and_out_of_inference_mode_and_autocast() -> None:
    monoid, x = behind_a_layer(D), torch.randn(12, D)
    with torch.inference_mode():
        tree = FoldTree(monoid, x[:5])
    tree.insert(x[5:8])
    with torch.inference_mode():
        tree.insert(x[8:10])
    with torch.autocast("cpu", torch.bfloat16):
        tree.insert(x[10:])
    with torch.no_grad():
        expected = monoid.lower(segment_reduce(monoid, monoid.lift(x)))
    assert error(tree.result(), expected) <= 0.05 and tree.result().dtype == torch.float32


@pytest.mark.parametrize("commutative", [True, False])
def test_closing_gaps(commutative: bool) -> None:
    """A tree made anew of what is there; numbers stay."""
    monoid = Gaps(commutative).double()
    x = torch.randn(40, D, dtype=torch.float64)
    index = torch.arange(40) % SETS
    tree = FoldTree(monoid, x, index)
    tree.remove(torch.arange(0, 36, 2))
    tree.compact()
    rest = torch.tensor([*range(1, 36, 2), *range(36, 40)])
    anew = FoldTree(monoid, x[rest], index[rest], dim_size=SETS)
    assert torch.equal(tree.result(), anew.result())
    assert tree.places[rest].tolist() == anew.places.tolist()
    tree.change(torch.tensor([37]), x[:1])
    anew.change(torch.tensor([19]), x[:1])
    assert torch.equal(tree.result(), anew.result())
    number = tree.insert(x[:1], torch.tensor([2]))
    assert number.tolist() == [40] and tree.num_elements == 23


def test_memory_of_a_window_that_moves() -> None:
    """An operator that is not commutative never fills a gap: closing them bounds the rows."""
    tree = FoldTree(Gaps(False), torch.randn(4, D))
    for _ in range(50):
        number = tree.insert(torch.randn(20, D))
        tree.remove((tree.index >= 0).nonzero().flatten()[: len(number)])
        tree.compact()
    assert tree.num_elements == 4 and tree._layout.size <= 2 * 8


def test_channels_that_only_elements_tell() -> None:
    tree = FoldTree(Sum(), torch.ones(2, 3), torch.tensor([0, 2]))
    assert tree.result().tolist() == [[1] * 3, [0] * 3, [1] * 3]


def test_what_is_refused_changes_nothing() -> None:
    tree = FoldTree(Sum(2), torch.ones(3, 2), torch.tensor([0, 1, 1]))
    tree.remove(torch.tensor([1]))
    for call, message in [
        (lambda: tree.remove(torch.tensor([1])), "names 1, which has been removed"),
        (lambda: tree.remove(torch.tensor([3])), "from 0 to 2"),
        (lambda: tree.remove(torch.tensor([0, 0])), "named twice"),
        (lambda: tree.change(torch.tensor([0]), torch.ones(2, 2)), "as many elements as are named"),
        (lambda: tree.change(torch.tensor([0]), torch.ones(1, 3)), r"\[m, 2\]"),
        (lambda: tree.insert(torch.ones(1, 2).double()), "torch.float32"),
        (lambda: tree.insert(torch.ones(1, 2), torch.tensor([-1])), "must not be negative"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    assert tree.result().tolist() == [[1, 1], [1, 1]] and tree.num_elements == 2
    with pytest.raises(TypeError, match="'monoid' must be a Monoid"):
        FoldTree("sum", torch.ones(1, 1))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"'x' must be a tensor \(got list\)"):
        tree.insert([[1.0, 2.0]])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a tensor of no dimensions"):
        FoldTree(Sum(1), torch.tensor(1.0))
    with pytest.raises(ValueError, match="the places that a mask marks"):
        tree.remove(torch.tensor([True, False, True]))


@given(st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3)), max_size=4), max_size=5))
def test_rows_are_never_shared(grown: list[list[tuple[int, int]]]) -> None:
    """Every node of every set has a row of its own, and keeps what it holds when its set grows."""
    layout = Layout(6, torch.device("cpu"))
    heights = [-1] * 6
    held: dict[int, tuple[int, int, int]] = {}  # row -> set, level, place
    for batch in grown:
        more = dict(batch)
        sets = torch.tensor(list(more), dtype=torch.int64)
        height = torch.tensor([heights[own] + more[own] for own in more], dtype=torch.int64)
        before, after = layout.grow(sets, height)
        moved = [held.pop(row) for row in before.tolist()]
        held.update(zip(after.tolist(), moved, strict=True))
        for own in more:
            heights[own] += more[own]
        expected = {
            (own, level, place)
            for own in range(6)
            for level in range(heights[own] + 1)
            for place in range(1 << (heights[own] - level))
        }
        for own, level, place in expected - set(held.values()):
            one = torch.tensor([own]), level, torch.tensor([place])
            row = int(layout.row(*one))
            assert row not in held and row < layout.size
            held[row] = (own, level, place)
        for row, (own, level, place) in held.items():
            assert row == int(layout.row(torch.tensor([own]), level, torch.tensor([place])))
