"""MNIST's files: what is read, and everything that can be wrong with them."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from lcm_graph.datasets.sets.mnist_raw import load_mnist
from tests.datasets.sets.idx import idx_bytes, write_mnist

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(("split", "prefix"), [("train", "train"), ("test", "t10k")])
def test_reads_what_was_written(tmp_path, split, prefix, compress):
    images, labels = write_mnist(tmp_path, 7, prefix, compress)
    read_images, read_labels = load_mnist(str(tmp_path), split)
    assert np.array_equal(read_images, images.reshape(7, 784)) and read_images.dtype == np.uint8
    assert np.array_equal(read_labels, labels)


def test_unknown_split(tmp_path):
    with pytest.raises(ValueError, match=r"split must be one of train, test \(got 'valid'\)"):
        load_mnist(tmp_path, "valid")


@pytest.mark.parametrize("name", [IMAGES, LABELS])
def test_missing(tmp_path, name):
    write_mnist(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name} is missing, and so is .*gz: copy .*root"):
        load_mnist(tmp_path, "train")


@pytest.mark.parametrize("name", [IMAGES, LABELS])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-1], r"bytes, its header says"),
        (lambda content: content + b"\0", r"bytes, its header says"),
        (lambda content: b"", "no idx file"),
        (lambda content: content[:6], "no idx file"),
        (lambda content: b"<html>" + content, "no idx file"),
    ],
)
@pytest.mark.parametrize("compress", [False, True])
def test_damaged(tmp_path, name, damage, message, compress):
    write_mnist(tmp_path)
    content = damage((tmp_path / name).read_bytes())
    (tmp_path / name).unlink()
    path = tmp_path / (name + ".gz" if compress else name)
    path.write_bytes(gzip.compress(content) if compress else content)
    with pytest.raises(ValueError, match=rf"{path.name} is damaged .*{message}.*copy it again"):
        load_mnist(tmp_path, "train")


@pytest.mark.parametrize("damage", ["truncated", "foreign", "bits"])
def test_damaged_gzip(tmp_path, damage):
    write_mnist(tmp_path, compress=True)
    path = tmp_path / f"{IMAGES}.gz"
    content = path.read_bytes()
    path.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "foreign": b"<html>",
            "bits": content[:50] + bytes(len(content) - 50),
        }[damage]
    )
    with pytest.raises(ValueError, match=rf"{IMAGES}.gz is damaged .*copy it again"):
        load_mnist(tmp_path, "train")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (IMAGES, np.zeros((30, 8, 8), np.uint8), r"holds 30 x 8 x 8 pixels, not N x 28 x 28"),
        (IMAGES, np.zeros((0, 28, 28), np.uint8), r"holds 0 x 28 x 28 pixels"),
        (IMAGES, np.zeros((30, 784), np.uint8), r"no idx file of 3-dimensional"),
        (LABELS, np.zeros(29, np.uint8), r"holds 29 labels, .*images-idx3-ubyte 30 pictures"),
        (LABELS, np.full(30, 10, np.uint8), r"holds the label 10, which is no digit"),
    ],
)
def test_other_content(tmp_path, name, array, message):
    write_mnist(tmp_path)
    (tmp_path / name).write_bytes(idx_bytes(array))
    with pytest.raises(ValueError, match=rf"{name} is damaged .*{message}"):
        load_mnist(tmp_path, "train")


def test_mnist():
    if not (data := os.environ.get("LCM_DATA")):
        pytest.skip("LCM_DATA is not set: the folder that holds mnist/")
    images, labels = load_mnist(Path(data, "mnist"), "test")
    assert images.shape == (10_000, 784) and images.max() == 255
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(labels).tolist() == counts and labels[:4].tolist() == [7, 2, 1, 0]
    images, labels = load_mnist(Path(data, "mnist"), "train")
    assert images.shape == (60_000, 784) and labels[:4].tolist() == [5, 0, 4, 1]
    assert images.mean() / 255 == pytest.approx(0.1307, abs=1e-4)
