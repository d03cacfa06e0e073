"""Small MNIST folders for tests."""

import gzip
import struct

import numpy as np


def idx_bytes(array):
    """An idx file of unsigned bytes."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder, count=30, split="train", compress=False):
    """Write ``count`` random pictures and labels; returns both."""
    random = np.random.default_rng(count)
    images = random.integers(0, 256, (count, 28, 28), np.uint8)
    labels = random.integers(0, 10, count, np.uint8)
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        path = folder / f"{split}-{kind}-ubyte{'.gz' if compress else ''}"
        path.write_bytes(gzip.compress(idx_bytes(array)) if compress else idx_bytes(array))
    return images, labels
