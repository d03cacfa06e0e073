"""Sets of pictured digits: pictures, labels and batches."""

import os
from pathlib import Path

import pytest
import torch

from lcm_graph.datasets import MNIST_FUNCTIONS, MNISTSets
from tests.datasets.sets.idx import write_mnist


@pytest.fixture
def root(tmp_path):
    write_mnist(tmp_path, 30)
    return tmp_path


def sets_of(values, ptr):
    return [part.tolist() for part in values.split(ptr.diff().tolist())]


@pytest.mark.parametrize(
    ("function", "outputs", "reference"),
    [
        ("sum", 1, lambda s: sum(s) / 10),
        ("second_minimum", 10, lambda s: sorted(s)[1]),
        ("modular_sum", 10, lambda s: sum(s) % 10),
    ],
)
def test_labels(root, function, outputs, reference):
    data = MNISTSets(root, function, 50, 2, 6, seed=1)
    assert len(data) == 50 and data.ptr.diff().unique().tolist() == [2, 3, 4, 5, 6]
    expected = [reference(s) for s in sets_of(data.values, data.ptr)]
    assert data.labels.tolist() == pytest.approx(expected, rel=1e-12)
    assert data.function.num_outputs(data.bits) == outputs
    if function == "sum":
        assert data.y.shape == (50, 1) and data.y.dtype == torch.float32
        assert 0 < data.trivial_accuracy() < 0.5
    else:
        assert data.y.tolist() == expected and data.y.dtype == torch.int64
        assert data.trivial_accuracy() == max(map(expected.count, expected)) / 50


def test_functions():
    assert MNIST_FUNCTIONS == ("sum", "second_minimum", "modular_sum")


def test_pictures_show_the_values(tmp_path):
    images, labels = write_mnist(tmp_path, 30, "t10k", compress=True)
    data = MNISTSets(tmp_path, "sum", 40, 1, 5, split="test")
    assert data.images.shape == (30, 784) and data.images.dtype == torch.uint8
    assert torch.equal(data.values, torch.tensor(labels).long()[data.index])
    assert len(data.index.unique()) > 20
    pictures = torch.tensor(images).view(30, 784)
    seen = 0
    for batch in data.batches(7):
        index = data.index[seen : seen + len(batch.x)]
        torch.testing.assert_close(batch.x, pictures[index].float() / 255, rtol=0, atol=0)
        seen += len(batch.x)
    assert seen == len(data.index)


def test_shuffled_batches_keep_sets_together(root):
    data = MNISTSets(root, "modular_sum", 40, 2, 6)
    digit = {
        tuple(image.tolist()): value
        for image, value in zip(data.images, data._digits.tolist(), strict=True)
    }
    answers = []
    for batch in data.batches(7, generator=torch.Generator().manual_seed(0), shuffle=True):
        pictures = (batch.x * 255).round().to(torch.uint8)
        values = torch.tensor([digit[tuple(picture.tolist())] for picture in pictures])
        assert batch.y.tolist() == [sum(s) % 10 for s in sets_of(values, batch.ptr)]
        answers += batch.y.tolist()
    assert sorted(answers) == data.y.sort().values.tolist() and answers != data.y.tolist()


def test_seeded_by_its_own_generator(root):
    before = torch.get_rng_state()
    a, b, c = (MNISTSets(root, "sum", 50, 3, 3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(a.index, b.index) and not torch.equal(a.index, c.index)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"function": "parity"}, r"function must be one of sum, .*modular_sum \(got 'parity'\)"),
        ({"split": "valid"}, r"split must be one of train, test \(got 'valid'\)"),
        ({"num_sets": 0}, r"num_sets must be at least 1 \(got 0\)"),
        ({"min_size": 0}, r"min_size must be at least 1: .* no sum \(got 0\)"),
        ({"function": "second_minimum", "min_size": 1}, r"min_size must be at least 2"),
        ({"max_size": 1}, r"max_size must be at least min_size"),
    ],
)
def test_bad_arguments(root, change, message):
    arguments = {"root": root, "function": "sum", "num_sets": 5, "min_size": 2, "max_size": 4}
    with pytest.raises(ValueError, match=message):
        MNISTSets(**arguments | change)


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte is missing"):
        MNISTSets(tmp_path / "nowhere", "sum", 5, 2, 4)


def test_repr(root):
    assert repr(MNISTSets(root, "sum", 5, 2, 4, seed=3)) == (
        "MNISTSets('sum', 5, min_size=2, max_size=4, split='train', seed=3)"
    )


def test_mnist():
    if not (data := os.environ.get("LCM_DATA")):
        pytest.skip("LCM_DATA is not set: the folder that holds mnist/")
    sets = MNISTSets(Path(data, "mnist"), "second_minimum", 2000, 10, 10, split="test")
    assert sets.images.shape == (10_000, 784)
    batch = next(iter(sets.batches(100)))
    assert batch.x.shape == (1000, 784) and batch.x.min() == 0 and batch.x.max() == 1
    # The 2nd minimum of ten digits is 0 unless at most one of them is.
    zero = 0.098
    expected = 1 - (1 - zero) ** 10 - 10 * zero * (1 - zero) ** 9
    assert (sets.labels == 0).double().mean().item() == pytest.approx(expected, abs=0.05)
