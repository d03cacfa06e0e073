"""The 2nd-minimum data set against its definition."""

import pytest
import torch

from lcm_graph.datasets import SecondMinimum, SetBatch


def as_lists(values, ptr):
    return [values[a:b].tolist() for a, b in zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True)]


def from_bits(bits):
    return (bits.long() * 2 ** torch.arange(bits.size(1))).sum(1)


@pytest.mark.parametrize(
    ("min_size", "max_size", "bits"), [(2, 16, 8), (2, 2, 1), (7, 7, 3), (2, 40, 31)]
)
def test_labels_are_second_smallest(min_size, max_size, bits):
    data = SecondMinimum(200, min_size, max_size, bits=bits, seed=3)
    sets = as_lists(data.values, data.ptr)
    assert len(sets) == len(data) == 200
    assert {len(s) for s in sets} <= set(range(min_size, max_size + 1))
    assert data.labels.tolist() == [sorted(s)[1] for s in sets]
    assert torch.equal(from_bits(data.y), data.labels)
    assert data.values.dtype == data.ptr.dtype == torch.int64
    assert data.y.dtype == torch.float32 and data.y.shape == (200, bits)


def test_covers_the_whole_range():
    data = SecondMinimum(2000, 2, 4, bits=3, seed=0)
    assert data.values.unique().tolist() == list(range(8))
    assert (data.ptr[1:] - data.ptr[:-1]).unique().tolist() == [2, 3, 4]


def test_equal_elements_count_separately():
    data = SecondMinimum(500, 3, 3, bits=1, seed=0)
    sets = as_lists(data.values, data.ptr)
    both = [label for s, label in zip(sets, data.labels.tolist(), strict=True) if s.count(0) == 2]
    assert both and set(both) == {0}


def test_seeded_by_its_own_generator():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    a, b, c = SecondMinimum(50, seed=1), SecondMinimum(50, seed=1), SecondMinimum(50, seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(a.values, b.values) and torch.equal(a.ptr, b.ptr)
    assert not torch.equal(a.values[:50], c.values[:50])


def test_batches_in_order_hold_everything():
    data = SecondMinimum(23, 2, 9, bits=8, seed=0)
    batches = list(data.batches(5))
    assert [len(batch.y) for batch in batches] == [5, 5, 5, 5, 3]
    assert all(batch.x.dtype == batch.y.dtype == torch.float32 for batch in batches)
    sets = [s for batch in batches for s in as_lists(from_bits(batch.x), batch.ptr)]
    assert sets == as_lists(data.values, data.ptr)
    assert torch.equal(torch.cat([batch.y for batch in batches]), data.y)


def test_shuffle_keeps_sets_together():
    data = SecondMinimum(40, 2, 9, bits=16, seed=0)

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


def test_trivial_accuracy():
    data = SecondMinimum(300, 2, 16, bits=2, seed=0)
    labels = data.labels.tolist()
    expected = max(labels.count(label) for label in set(labels)) / 300
    assert data.trivial_accuracy() == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_sets": 0}, r"num_sets must be at least 1 \(got 0\)"),
        ({"num_sets": 5, "min_size": 1}, r"min_size .* no second minimum \(got 1\)"),
        ({"num_sets": 5, "min_size": 4, "max_size": 3}, r"max_size must be at least min_size"),
        ({"num_sets": 5, "bits": 0}, r"bits must be between 1 and 31 \(got 0\)"),
        ({"num_sets": 5, "bits": 32}, r"bits must be between 1 and 31 \(got 32\)"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SecondMinimum(**arguments)


def test_bad_batch_size_raises_at_once():
    with pytest.raises(ValueError, match=r"batch_size must be at least 1 \(got 0\)"):
        SecondMinimum(5).batches(0)


def test_repr_and_batch_to():
    data = SecondMinimum(5, 2, 3, bits=4, seed=7)
    assert repr(data) == "SecondMinimum(5, min_size=2, max_size=3, bits=4, seed=7)"
    batch = next(iter(data.batches(2))).to("cpu")
    assert isinstance(batch, SetBatch) and batch.x.size(1) == 4
