"""MNIST's idx files: what must be there, and whether it is intact."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PREFIXES = {"train": "train", "test": "t10k"}
_SIDE = 28
_UBYTE = 0x08
_SOURCE = "https://ossci-datasets.s3.amazonaws.com/mnist/"


def load_mnist(root: str | Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read the pictures and labels of ``"train"`` or ``"test"``.

    Args:
        root: folder that holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and their
            like with ``t10k``, each as it is or with ``.gz``.
        split: ``"train"`` or ``"test"``.

    Returns:
        Pictures uint8 ``[N, 784]`` and labels uint8 ``[N]``.

    Raises:
        ValueError: unknown ``split``, or a file is damaged, or holds something else.
        FileNotFoundError: a file is missing.
    """
    if split not in PREFIXES:
        raise ValueError(f"split must be one of {', '.join(PREFIXES)} (got {split!r})")
    images_path = _find(Path(root), f"{PREFIXES[split]}-images-idx3-ubyte")
    labels_path = _find(Path(root), f"{PREFIXES[split]}-labels-idx1-ubyte")
    images, labels = _read_idx(images_path, 3), _read_idx(labels_path, 1)
    if len(images) == 0 or images.shape[1:] != (_SIDE, _SIDE):
        raise _damaged(images_path, f"it holds {_shape(images)} pixels, not N x {_SIDE} x {_SIDE}")
    if labels.shape != images.shape[:1]:
        raise _damaged(
            labels_path, f"it holds {len(labels)} labels, {images_path} {len(images)} pictures"
        )
    if labels.max() > 9:
        raise _damaged(labels_path, f"it holds the label {labels.max()}, which is no digit")
    return images.reshape(len(images), -1), labels


def _find(root: Path, name: str) -> Path:
    for path in (root / name, root / f"{name}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{root / name} is missing, and so is {name}.gz: copy MNIST's four files to {root}, or "
        f"download them from {_SOURCE}, or name another folder with root"
    )


def _read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Unsigned bytes: two zeros, the type, the number of dimensions, these, and the content."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged(path, str(error)) from error
    start = 4 + 4 * dimensions
    if content[:4] != bytes([0, 0, _UBYTE, dimensions]) or len(content) < start:
        raise _damaged(path, f"it is no idx file of {dimensions}-dimensional unsigned bytes")
    shape = tuple(np.frombuffer(content, ">u4", dimensions, 4).tolist())
    if len(content) != start + math.prod(shape):
        raise _damaged(
            path, f"it holds {len(content) - start} bytes, its header says {math.prod(shape)}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _shape(array: NDArray[np.uint8]) -> str:
    return " x ".join(map(str, array.shape))


def _damaged(path: Path, reason: str) -> ValueError:
    return ValueError(
        f"{path} is damaged ({reason}); delete it and copy it again, or download it from {_SOURCE}"
    )
