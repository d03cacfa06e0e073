"""Streams of test sets: the same sets each time, in portions."""

import pickle

import pytest
import torch

from lcm_graph.datasets import SET_FUNCTIONS, SetStream, encode, set_function


def from_bits(bits):
    return (bits.long() * 2 ** torch.arange(bits.size(1))).sum(1)


def joined(batches):
    """All values, set sizes and answers of ``batches``."""
    batches = list(batches)
    return (
        torch.cat([from_bits(batch.x) for batch in batches]),
        torch.cat([batch.ptr.diff() for batch in batches]),
        torch.cat([batch.y for batch in batches]),
    )


@pytest.mark.parametrize("name", SET_FUNCTIONS)
def test_labels(name):
    function, stream = set_function(name), SetStream(name, 13, 7, max_elements=30)
    assert (stream.bits, stream.sampling) == (function.bits, function.sampling)
    values, sizes, y = joined(stream)
    assert len(stream) == 13 and sizes.tolist() == [7] * 13
    labels = function.label(values, torch.arange(14) * 7, stream.bits)
    assert torch.equal(y, encode(labels, function.answer, stream.bits))


def test_portions_are_whole_sets():
    stream = SetStream("parity", 11, 6, max_elements=25)
    assert [len(batch.y) for batch in stream] == [4, 4, 3]
    assert [len(batch.y) for batch in SetStream("parity", 3, 6, max_elements=5)] == [1, 1, 1]
    assert [len(batch.y) for batch in SetStream("parity", 3, 6)] == [3]
    assert [len(batch.y) for batch in stream.batches(3)] == [3, 1, 3, 1, 3]
    for batch in stream.batches(3):
        assert batch.ptr.tolist() == list(range(0, 6 * len(batch.y) + 1, 6))
        assert batch.x.shape == (6 * len(batch.y), 8) and batch.x.dtype == torch.float32


@pytest.mark.parametrize("sampling", ["uniform", "skewed"])
def test_the_same_sets_each_time(sampling):
    torch.manual_seed(0)
    before = torch.get_rng_state()

    def make(num_sets=20, seed=3):
        return SetStream("median", num_sets, 9, sampling=sampling, seed=seed, max_elements=40)

    stream = make()
    expected = joined(stream)
    for again in (stream, stream.batches(3), make(), pickle.loads(pickle.dumps(stream))):
        for a, b in zip(joined(again), expected, strict=True):
            assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), before)
    longer, other = joined(make(24))[0], joined(make(seed=4))[0]
    assert torch.equal(longer[:180], expected[0]) and not torch.equal(other, expected[0])


def test_portions_differ():
    first, second = (from_bits(batch.x) for batch in SetStream("sum", 2, 50, max_elements=50))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", ["second_minimum", "count_distinct"])
def test_trivial_accuracy(name):
    stream = SetStream(name, 200, 5, bits=3, max_elements=60)
    labels = [tuple(row) for row in joined(stream)[2].view(200, -1).tolist()]
    assert stream.trivial_accuracy() == max(map(labels.count, labels)) / 200


def test_trivial_accuracy_of_real_answers():
    stream = SetStream("sum", 200, 5, max_elements=60)
    labels = joined(stream)[2][:, 0].double()
    right = ((0.95 * labels - 0.005)[:, None] - labels).abs() <= 0.05 * labels + 0.005 + 1e-6
    assert stream.trivial_accuracy() == right.sum(1).max().item() / 200


@pytest.mark.parametrize("name", ["second_minimum", "mode", "variance"])
def test_a_set_of_a_million_elements(name):
    stream = SetStream(name, 2, 10**6, bits=16, sampling="range")
    batch = next(iter(stream))
    assert batch.x.shape == (10**6, 16) and batch.ptr.tolist() == [0, 10**6] and len(batch.y) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"function": "min"}, r"function must be one of .* \(got 'min'\)"),
        ({"num_sets": 0}, r"num_sets must be at least 1 \(got 0\)"),
        ({"size": 1}, r"size must be at least 2: .* no second_minimum \(got 1\)"),
        ({"bits": 32}, r"bits must be between 1 and 31 \(got 32\)"),
        ({"bits": 16, "sampling": "skewed"}, r"bits must be at most 12"),
        ({"seed": -1}, r"seed must be at least 0 \(got -1\)"),
        ({"max_elements": 0}, r"max_elements must be at least 1 \(got 0\)"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SetStream(**{"function": "second_minimum", "num_sets": 5, "size": 4} | arguments)


def test_bad_batch_size_raises_at_once():
    with pytest.raises(ValueError, match=r"batch_size must be at least 1 \(got 0\)"):
        SetStream("parity", 5, 2).batches(0)


def test_repr():
    assert repr(SetStream("mode", 5, 3, seed=7, max_elements=9)) == (
        "SetStream('mode', 5, size=3, bits=3, sampling='skewed', seed=7, max_elements=9)"
    )
