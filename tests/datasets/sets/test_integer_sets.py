"""Sets of integers: drawing, labels and batches."""

import pickle

import pytest
import torch

from lcm_graph.datasets import (
    SAMPLINGS,
    SET_FUNCTIONS,
    IntegerSets,
    SetBatch,
    SetFunction,
    kth_minimum,
    set_function,
)


def as_lists(values, ptr):
    return [values[a:b].tolist() for a, b in zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True)]


def from_bits(bits):
    return (bits.long() * 2 ** torch.arange(bits.size(1))).sum(1)


@pytest.mark.parametrize(
    ("min_size", "max_size", "bits"), [(2, 16, 8), (2, 2, 1), (7, 7, 3), (2, 40, 31)]
)
def test_labels_are_second_smallest(min_size, max_size, bits):
    data = IntegerSets("second_minimum", 200, min_size, max_size, bits=bits, seed=3)
    sets = as_lists(data.values, data.ptr)
    assert len(sets) == len(data) == 200
    assert {len(s) for s in sets} <= set(range(min_size, max_size + 1))
    assert data.labels.tolist() == [sorted(s)[1] for s in sets]
    assert torch.equal(from_bits(data.y), data.labels)
    assert data.values.dtype == data.ptr.dtype == torch.int64
    assert data.y.dtype == torch.float32 and data.y.shape == (200, bits)


@pytest.mark.parametrize("name", SET_FUNCTIONS)
def test_defaults_and_targets(name):
    function = set_function(name)
    data = IntegerSets(name, 300, seed=1)
    assert data.function is function
    assert (data.bits, data.sampling) == (function.bits, function.sampling)
    assert data.ptr.diff().unique().tolist() == list(range(function.min_size, 17))
    assert 0 <= data.values.min() and data.values.max() < 2**data.bits
    assert torch.equal(data.labels, function.label(data.values, data.ptr, data.bits))
    if function.answer == "bits":
        assert torch.equal(from_bits(data.y), data.labels) and data.y.dtype == torch.float32
    elif function.answer == "class":
        assert torch.equal(data.y, data.labels) and data.y.dtype == torch.int64
    else:
        assert data.y.shape == (300, 1) and data.y.dtype == torch.float32
        torch.testing.assert_close(data.y[:, 0].double(), data.labels, rtol=1e-6, atol=0)
    batches = list(data.batches(64))
    assert torch.equal(torch.cat([batch.y for batch in batches]), data.y)
    assert batches[0].x.shape[1] == data.bits


def test_covers_the_whole_range():
    data = IntegerSets("second_minimum", 2000, 2, 4, bits=3, seed=0)
    assert data.values.unique().tolist() == list(range(8))
    assert (data.ptr[1:] - data.ptr[:-1]).unique().tolist() == [2, 3, 4]


def test_draws_sizes_and_then_values():
    data = IntegerSets("second_minimum", 50, 3, 9, bits=5, seed=7)
    generator = torch.Generator().manual_seed(7)
    assert torch.equal(data.ptr.diff(), torch.randint(3, 10, (50,), generator=generator))
    assert torch.equal(data.values, torch.randint(0, 32, (len(data.values),), generator=generator))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_seeded_by_its_own_generator(sampling):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    a, b, c = (IntegerSets("maximum", 50, sampling=sampling, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(a.values, b.values) and torch.equal(a.ptr, b.ptr)
    assert not torch.equal(a.values[:50], c.values[:50])


def test_samplings_differ():
    spans = {}
    for sampling in SAMPLINGS:
        data = IntegerSets("maximum", 500, 40, 40, bits=4, sampling=sampling)
        sets = data.values.view(500, 40)
        spans[sampling] = (sets.amax(1) - sets.amin(1)).double().mean().item()
    assert spans["uniform"] > 13.5 > spans["skewed"] > 9 > spans["range"] > 4
    assert spans["uniform"] > spans["support"] > spans["range"]


def test_batches_in_order_hold_everything():
    data = IntegerSets("second_minimum", 23, 2, 9, bits=8, seed=0)
    batches = list(data.batches(5))
    assert [len(batch.y) for batch in batches] == [5, 5, 5, 5, 3]
    assert all(batch.x.dtype == batch.y.dtype == torch.float32 for batch in batches)
    sets = [s for batch in batches for s in as_lists(from_bits(batch.x), batch.ptr)]
    assert sets == as_lists(data.values, data.ptr)
    assert torch.equal(torch.cat([batch.y for batch in batches]), data.y)


def test_shuffle_keeps_sets_together():
    data = IntegerSets("second_minimum", 40, 2, 9, bits=16, seed=0)

    def shuffled(seed):
        generator = torch.Generator().manual_seed(seed)
        batches = list(data.batches(7, generator=generator, shuffle=True))
        sets = [s for batch in batches for s in as_lists(from_bits(batch.x), batch.ptr)]
        return sets, [label for batch in batches for label in from_bits(batch.y).tolist()]

    sets, labels = shuffled(0)
    assert labels == [sorted(s)[1] for s in sets]
    stored = as_lists(data.values, data.ptr)
    assert sorted(map(sorted, sets)) == sorted(map(sorted, stored))
    assert [sorted(s) for s in sets] != [sorted(s) for s in stored]  # the sets' order changed
    assert not {tuple(s) for s in sets} <= {tuple(s) for s in stored}  # and that within sets
    assert shuffled(0) == (sets, labels)
    assert shuffled(1) != (sets, labels)


@pytest.mark.parametrize("name", ["second_minimum", "largest_gap"])
def test_trivial_accuracy(name):
    data = IntegerSets(name, 300, bits=2, seed=0)
    labels = data.labels.tolist()
    expected = max(labels.count(label) for label in set(labels)) / 300
    assert data.trivial_accuracy() == expected


def test_trivial_accuracy_of_real_answers():
    data = IntegerSets("variance", 300, seed=0)
    labels = data.labels
    # The best constant may be taken to lie at the lower end of some label's interval.
    ends = 0.95 * labels - 0.005
    right = (ends[:, None] - labels).abs() <= 0.05 * labels + 0.005 + 1e-12
    assert data.trivial_accuracy() == right.sum(1).max().item() / 300


def test_a_function_of_one_s_own():
    def label(values, ptr, bits):
        return ptr.diff() % 3

    data = IntegerSets(SetFunction("size", label, "class", 3), 20, seed=0)
    assert torch.equal(data.y, data.ptr.diff() % 3)
    data = IntegerSets(kth_minimum(5), 20)
    assert data.min_size == 5
    assert data.labels.tolist() == [sorted(s)[4] for s in as_lists(data.values, data.ptr)]


def test_a_set_of_a_million_elements():
    data = IntegerSets("second_minimum", 2, 10**6, 10**6, bits=16)
    assert data.labels.tolist() == data.values.view(2, -1).sort().values[:, 1].tolist()
    assert next(iter(data.batches(1))).x.shape == (10**6, 16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_sets": 0}, r"num_sets must be at least 1 \(got 0\)"),
        ({"num_sets": 5, "min_size": 1}, r"min_size .* at least 2.*no second_minimum \(got 1\)"),
        ({"num_sets": 5, "min_size": 4, "max_size": 3}, r"max_size must be at least min_size"),
        ({"num_sets": 5, "max_size": 1}, r"max_size must be at least min_size .*max_size=1, min_"),
        ({"num_sets": 5, "bits": 0}, r"bits must be between 1 and 31 \(got 0\)"),
        ({"num_sets": 5, "bits": 32}, r"bits must be between 1 and 31 \(got 32\)"),
        ({"num_sets": 5, "bits": 13, "sampling": "support"}, r"bits must be at most 12"),
        ({"num_sets": 5, "sampling": "gauss"}, r"sampling must be one of .* \(got 'gauss'\)"),
        ({"num_sets": 5, "function": "min"}, r"function must be one of .* \(got 'min'\)"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        IntegerSets(**({"function": "second_minimum"} | arguments))


def test_bad_batch_size_raises_at_once():
    with pytest.raises(ValueError, match=r"batch_size must be at least 1 \(got 0\)"):
        IntegerSets("parity", 5).batches(0)


def test_repr_pickle_and_batch_to():
    data = IntegerSets("second_minimum", 5, 2, 3, bits=4, seed=7)
    assert repr(data) == (
        "IntegerSets('second_minimum', 5, min_size=2, max_size=3, bits=4, sampling='uniform', "
        "seed=7)"
    )
    assert torch.equal(pickle.loads(pickle.dumps(data)).y, data.y)  # as processes of run_all do
    batch = next(iter(data.batches(2))).to("cpu")
    assert isinstance(batch, SetBatch) and batch.x.size(1) == 4
