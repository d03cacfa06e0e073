"""Chunk by chunk against all at once."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lcm_graph.monoids import BinaryGRU, Monoid, Sum
from lcm_graph.reduce import Accumulator, segment_reduce
from tests.monoids.shipped import MONOIDS
from tests.reduce.fragile import Fails, behind_a_layer
from tests.references import Ordered, error

D = 4


def batch(monoid: Monoid, x: Tensor, index: Tensor, sets: int) -> Tensor:
    return monoid.lower(segment_reduce(monoid, monoid.lift(x), index, dim_size=sets))


chunk = st.lists(st.integers(0, 3), max_size=40)


@given(st.lists(chunk, min_size=1, max_size=6))
def test_any_chunks(chunks: list[list[int]]) -> None:
    """Of an operator whose answer tells of every other tree and order."""
    torch.manual_seed(1)
    monoid = Ordered(D).double()
    index = [torch.tensor(sets, dtype=torch.int64) for sets in chunks]
    x = [torch.randn(len(sets), D, dtype=torch.float64) for sets in chunks]
    stream = Accumulator(monoid)
    for some, where in zip(x, index, strict=True):
        stream.update(some, where, dim_size=4)
    whole = torch.cat(index)
    expected = batch(monoid, torch.cat(x), whole, 4)
    assert error(stream.result(), expected) <= 1e-12
    assert stream.counts.tolist() == torch.bincount(whole, minlength=4).tolist()


@given(st.lists(st.integers(0, 12), min_size=1, max_size=5))
def test_any_merge_of_aligned_parts(exponents: list[int]) -> None:
    """Parts of ever smaller powers of two, and a rest, are subtrees of the whole."""
    torch.manual_seed(2)
    monoid = Ordered(D).double()
    sizes = [2 ** (exponent // 3) for exponent in sorted(exponents, reverse=True)]
    sizes[-1] = max(1, sizes[-1] - 1)
    parts = torch.randn(sum(sizes), D, dtype=torch.float64).split(sizes)
    whole = Accumulator(monoid)
    for part in parts:
        apart = Accumulator(monoid)
        apart.update(part)
        whole.merge(apart)
    expected = batch(monoid, torch.cat(parts), torch.zeros(sum(sizes), dtype=torch.int64), 1)
    assert error(whole.result(), expected) <= 1e-12


@pytest.mark.parametrize("n", [0, 1, 2, 3, 16, 17, 1000])
def test_bit_for_bit_in_double_precision(n: int) -> None:
    """One operation after another on the same numbers; an elementwise operator does not round
    otherwise in chunks of another size."""

    class Elementwise(Ordered):
        def combine(self, left: Tensor, right: Tensor) -> Tensor:
            return torch.tanh(left * self.left[0] + right * self.right[0])

    monoid = Elementwise(D).double()
    x = torch.randn(n, D, dtype=torch.float64)
    stream = Accumulator(monoid)
    for some in x.split(7) or [x]:
        stream.update(some, dim_size=1)
    expected = batch(monoid, x, torch.zeros(n, dtype=torch.int64), 1)
    assert torch.equal(stream.result(), expected)


def test_states_grow_by_the_logarithm() -> None:
    stream = Accumulator(Sum(1))
    for _ in range(64):
        stream.update(torch.ones(1000, 1))
    assert stream.result().item() == stream.num_elements == 64_000
    assert stream.num_states <= math.log2(64_000) + 1
    many = Accumulator(Sum(1))  # a hub, and many sets of one
    many.update(torch.ones(4999, 1), torch.cat([torch.zeros(4000), torch.arange(1, 1000)]).long())
    assert many.num_states <= 1000 + 12


def test_gradients_of_all_chunks(make_gru: type[BinaryGRU]) -> None:
    """``gradient="all"``: those of the fold of all elements at once."""
    monoid = make_gru(D).double()
    x = torch.randn(45, D, dtype=torch.float64, requires_grad=True)
    index = torch.randint(0, 4, (45,))
    inputs = [x, *monoid.parameters()]
    expected = batch(monoid, x, index, 5)
    cotangent = torch.randn_like(expected)
    expected_gradients = torch.autograd.grad(expected, inputs, cotangent)
    stream = Accumulator(monoid, gradient="all")
    for some, where in zip(x.split(7), index.split(7), strict=True):
        stream.update(some, where, dim_size=5)
    found = stream.result()
    for one, other in zip(
        torch.autograd.grad(found, inputs, cotangent), expected_gradients, strict=True
    ):
        assert error(one, other) <= 1e-12


def test_gradients_of_the_last_chunk(make_gru: type[BinaryGRU]) -> None:
    """They are those of elements that are leaves; what came before is constant."""
    monoid = make_gru(D).double()
    for weight in monoid.parameters():
        weight.requires_grad_(False)
    x = torch.randn(29, D, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn(1, D, dtype=torch.float64)
    index = torch.zeros(29, dtype=torch.int64)
    (expected,) = torch.autograd.grad(batch(monoid, x, index, 1), x, cotangent)
    stream = Accumulator(monoid)
    stream.update(x[:22])
    stream.update(x[22:])
    (found,) = torch.autograd.grad(stream.result(), x, cotangent)
    assert error(found[22:], expected[22:]) <= 1e-12
    assert (found[:22] == 0).all()


def test_answers_stay_differentiable_while_the_stream_goes_on() -> None:
    monoid = BinaryGRU(D).double()
    x = torch.randn(9, D, dtype=torch.float64)
    stream, alone = Accumulator(monoid), Accumulator(monoid)
    stream.update(x[:5])
    alone.update(x[:5])
    first = stream.result().sum()
    stream.update(x[5:])
    first.backward()
    found = [weight.grad.clone() for weight in monoid.parameters() if weight.grad is not None]
    monoid.zero_grad()
    alone.result().sum().backward()
    for one, weight in zip(found, monoid.parameters(), strict=True):
        assert weight.grad is not None and torch.equal(one, weight.grad)


@pytest.mark.parametrize("name", MONOIDS)
def test_kept_and_gone_on_with(name: str) -> None:
    """Every monoid's states go through a dictionary of tensors."""
    monoid = MONOIDS[name]().eval()
    x, index = torch.randn(40, int(monoid.channels or 0)), torch.randint(0, 3, (40,))
    whole = Accumulator(monoid)
    whole.update(x[:23], index[:23])
    kept = {key: tensor.clone() for key, tensor in whole.state_dict().items()}
    again = Accumulator(monoid)
    again.load_state_dict(kept)
    for stream in (whole, again):
        stream.update(x[23:], index[23:], dim_size=5)
    assert torch.equal(whole.result(), again.result())
    assert error(whole.result(), batch(monoid, x, index, 5)) <= 1e-4


def test_copies_go_on_on_their_own() -> None:
    stream = Accumulator(Sum(1))
    stream.update(torch.ones(5, 1))
    other = stream.copy()
    stream.update(torch.ones(6, 1), torch.zeros(6).long(), dim_size=2)
    other.update(torch.ones(1, 1))
    assert stream.result().flatten().tolist() == [11, 0]
    assert other.result().flatten().tolist() == [6]


def test_new_sets_come_later() -> None:
    stream = Accumulator(Sum(2))
    stream.update(torch.ones(2, 2), torch.tensor([1, 1]))
    stream.update(torch.ones(1, 2), torch.tensor([4]))
    stream.update(torch.ones(1, 2), torch.tensor([0]))
    assert stream.result()[:, 0].tolist() == [1, 2, 0, 0, 1]
    stream.update(torch.ones(0, 2), torch.empty(0, dtype=torch.int64), dim_size=7)
    assert stream.result().shape == (7, 2)


def test_a_refused_chunk_changes_nothing() -> None:
    stream = Accumulator(Sum(2))
    stream.update(torch.ones(3, 2))
    for x, message in [
        (torch.ones(3, 2, dtype=torch.float64), "same dtype"),
        (torch.ones(3, 3), r"must be \[n, 2\]"),
        (torch.ones(3, 2).long(), "same dtype"),
    ]:
        with pytest.raises(ValueError, match=message):
            stream.update(x)
    with pytest.raises(ValueError, match="'index'"):
        stream.update(torch.ones(3, 2), torch.tensor([0, -1, 0]))
    assert stream.result().tolist() == [[3, 3]] and stream.num_elements == 3


@pytest.mark.parametrize("after", range(6))
def test_an_operator_that_fails_changes_nothing(after: int) -> None:
    """Not even what gradients the result has."""
    monoid = Fails(D).double()
    x = torch.randn(12, D, dtype=torch.float64)
    stream = Accumulator(monoid)
    stream.update(x[:7])
    before, counts = stream.result(), stream.counts
    monoid.after = after
    with pytest.raises(RuntimeError, match="no"):
        stream.update(x[7:].repeat(3, 1), torch.arange(15) % 2)
    monoid.after = None
    assert torch.equal(stream.result(), before) and torch.equal(stream.counts, counts)
    assert stream.result().requires_grad
    stream.update(x[7:])
    assert error(stream.result(), batch(monoid, x, torch.zeros(12).long(), 1)) <= 1e-12


def test_chunks_in_and_out_of_inference_mode() -> None:
    monoid, x = BinaryGRU(D), torch.randn(23, D)
    index = torch.arange(23) % 3
    stream = Accumulator(monoid)
    with torch.inference_mode():
        stream.update(x[:9], index[:9])
    stream.update(x[9:17], index[9:17])
    with torch.inference_mode():
        stream.update(x[17:], index[17:])
    assert error(stream.result(), batch(monoid, x, index, 3)) <= 1e-6
    stream.update(x[:1], index[:1])
    assert stream.num_elements == 24


def test_chunks_in_and_out_of_autocast() -> None:
    """States keep the dtype of the first chunk's."""
    monoid, x = behind_a_layer(D), torch.randn(23, D)
    expected = batch(monoid, x, torch.zeros(23).long(), 1)
    for first in (True, False):
        stream = Accumulator(monoid)
        for number, some in enumerate(x.split(8)):
            with torch.autocast("cpu", torch.bfloat16, enabled=(number % 2 == 0) == first):
                stream.update(some)
        kept = stream.state_dict()["levels.0.0"]
        assert kept.dtype == (torch.bfloat16 if first else torch.float32)
        again = Accumulator(monoid)
        again.load_state_dict(stream.state_dict())
        with torch.autocast("cpu", torch.bfloat16, enabled=first):
            assert error(stream.result(), expected) <= 0.05
            assert torch.equal(again.result(), stream.result())


def test_without_gradients_among_chunks_with() -> None:
    """What is taken in under no_grad is a constant; what came before keeps its graph."""
    monoid = Sum(1)
    first, later = torch.ones(3, 1, requires_grad=True), torch.ones(2, 1, requires_grad=True)
    stream = Accumulator(monoid, gradient="all")
    stream.update(first, torch.tensor([0, 1, 1]))
    with torch.no_grad():
        stream.update(later, torch.tensor([0, 2]))
    stream.result().sum().backward()
    assert later.grad is None
    assert first.grad is not None and first.grad.flatten().tolist() == [0, 1, 1]


def test_copies_of_modules_that_hold_one() -> None:
    """A deep copy has its own monoid and goes on by itself, without the graph."""
    stream = Accumulator(BinaryGRU(D))
    stream.update(torch.randn(5, D))
    other = copy.deepcopy(stream)
    assert other.monoid is not stream.monoid
    assert torch.equal(other.result(), stream.result())
    other.update(torch.randn(1, D))
    assert (stream.num_elements, other.num_elements) == (5, 6)
    assert copy.deepcopy(Accumulator(Sum(1))).num_elements == 0


def test_channels_that_only_elements_tell() -> None:
    stream = Accumulator(Sum())
    stream.update(torch.ones(2, 3), torch.tensor([0, 4]))
    assert stream.result().tolist() == [[1] * 3, [0] * 3, [0] * 3, [0] * 3, [1] * 3]
    assert torch.equal(
        stream.result(), segment_reduce(Sum(), torch.ones(2, 3), torch.tensor([0, 4]))
    )


def test_merging_in_another_order() -> None:
    monoid = Ordered(D)
    stream, other = Accumulator(monoid), Accumulator(monoid)
    stream.update(torch.randn(3, D))
    other.update(torch.randn(2, D))
    with pytest.raises(ValueError, match="not commutative, and set 0 has 3 elements"):
        stream.merge(other)
    assert stream.num_elements == 3


def test_merging_what_has_other_sets() -> None:
    few, many = Accumulator(Sum(1)), Accumulator(Sum(1))
    few.update(torch.ones(3, 1), torch.tensor([1, 1, 0]))
    many.update(torch.ones(9, 1), torch.arange(9) % 4)
    few.merge(many)
    assert few.counts.tolist() == few.result().flatten().tolist() == [4, 4, 2, 2]
    assert many.num_elements == 9
    few.merge(Accumulator(Sum(1)))
    fresh = Accumulator(Sum(1))
    fresh.merge(few)
    assert fresh.result().flatten().tolist() == [4, 4, 2, 2]


@pytest.mark.parametrize("sizes", [(16, 16, 16), (16, 8, 5), (8, 8, 8, 3)])
def test_gradients_through_merges(sizes: tuple[int, ...]) -> None:
    """Of whole subtrees, and a rest: those of one fold."""
    monoid = BinaryGRU(D).double()
    parts = [torch.randn(n, D, dtype=torch.float64, requires_grad=True) for n in sizes]
    whole = Accumulator(monoid, gradient="all")
    for part in parts:
        apart = Accumulator(monoid, gradient="all")
        apart.update(part)
        whole.merge(apart)
    x = torch.cat(parts)
    expected = batch(monoid, x, torch.zeros(len(x), dtype=torch.int64), 1)
    inputs = [*parts, *(w for name, w in monoid.named_parameters() if name != "empty")]
    cotangent = torch.randn_like(expected)
    found = torch.autograd.grad(whole.result(), inputs, cotangent)
    for one, other in zip(found, torch.autograd.grad(expected, inputs, cotangent), strict=True):
        assert error(one, other) <= 1e-12


def test_merges_keep_the_latest_graph_alone() -> None:
    parts = [torch.ones(4, 1, requires_grad=True) for _ in range(3)]
    whole = Accumulator(Sum(1))
    for part in parts:
        apart = Accumulator(Sum(1))
        apart.update(part)
        whole.merge(apart)
    whole.result().sum().backward()
    assert [part.grad is None for part in parts] == [True, True, False]


def test_merging_what_other_parameters_made() -> None:
    one, other = Accumulator(BinaryGRU(D)), Accumulator(BinaryGRU(D))
    for stream in (one, other):
        stream.update(torch.randn(4, D))
    with pytest.raises(ValueError, match="same parameters"):
        one.merge(other)
    other.monoid.load_state_dict(one.monoid.state_dict())
    one.merge(other)
    assert one.num_elements == 8


@pytest.mark.parametrize(
    ("make", "error_type", "message"),
    [
        (
            lambda: Accumulator("sum"),  # type: ignore[arg-type]
            TypeError,
            "'monoid' must be a Monoid",
        ),
        (lambda: Accumulator(Sum(1), gradient="some"), ValueError, "one of last, all"),
        (lambda: Accumulator(Sum(1)).result(), ValueError, "no chunk"),
        (lambda: Accumulator(Sum(1)).state_dict(), ValueError, "no chunk"),
        (
            lambda: Accumulator(Sum(1)).merge(3),  # type: ignore[arg-type]
            TypeError,
            "an Accumulator",
        ),
        (lambda: Accumulator(Sum(1)).merge(Accumulator(Sum(2))), TypeError, "same monoid"),
        (lambda: Accumulator(Sum(1)).load_state_dict({}), ValueError, "'state_dict' is not what"),
        (
            lambda: Accumulator(Sum(1)).load_state_dict(None),  # type: ignore[arg-type]
            TypeError,
            "'state_dict' must be a mapping",
        ),
        (
            lambda: Accumulator(Sum(1)).update([[1.0]]),  # type: ignore[arg-type]
            TypeError,
            "'x' must be a tensor .got list.",
        ),
        (
            lambda: Accumulator(Sum(1)).update(torch.ones(2, 1), torch.tensor([True, False])),
            ValueError,
            "nonzero",
        ),
        (
            lambda: Accumulator(Sum(1)).update(
                torch.ones(3, 1), torch.tensor([0, 1, 2]), torch.tensor([0, 3])
            ),
            ValueError,
            "'index' and 'ptr' name different sets",
        ),
        (
            lambda: Accumulator(Sum(1)).update(torch.ones(3, 1), dim_size=1.0),  # type: ignore[arg-type]
            ValueError,
            "'dim_size' must be an integer",
        ),
    ],
)
def test_errors(make, error_type: type[Exception], message: str) -> None:
    with pytest.raises(error_type, match=message):
        make()


def test_a_spoilt_dictionary_is_refused() -> None:
    stream = Accumulator(Sum(2))
    stream.update(torch.ones(5, 2))
    kept = stream.state_dict()
    for change in (
        {"levels.2.0": torch.ones(1, 3)},
        {"levels.2.0": torch.ones(1, 2).double()},
        {"levels.0.sets": torch.tensor([1])},
        {"levels.1.0": torch.ones(1, 2)},
        {"counts": torch.tensor([6])},
        {"counts": None},
        {"counts": torch.tensor([5], dtype=torch.int32)},
        {"like": torch.ones(1, 2)},
        {"more": torch.ones(1)},
    ):
        with pytest.raises(ValueError, match="'state_dict' is not what"):
            stream.load_state_dict({**kept, **change})  # type: ignore[dict-item]
    assert stream.result().tolist() == [[5, 5]]
