"""Debian's packages, as archives of arrays."""

import gzip

import numpy as np
import pytest
import torch

from lcm_graph.datasets import load_debian_dependencies, load_debian_files
from tests.datasets.graphs.archives import write_dependencies, write_files


def test_dependencies(tmp_path):
    write_dependencies(tmp_path)
    data = load_debian_dependencies(tmp_path)
    with np.load(tmp_path / "deps.npz") as arrays:
        for key, name in (("edge_index",) * 2, ("edge_type",) * 2, ("section", "y")):
            assert data[name].dtype == torch.int64
            assert data[name].tolist() == arrays[key].tolist()
    assert (data.num_nodes, data.num_classes, data.num_edge_types) == (60, 3, 3)
    assert data.validate() and ((data.y < 0) == (data.node_kind == 1)).all()
    assert data.source.tolist() == [node // 3 * 3 + 2 for node in range(60)]


def test_files(tmp_path):
    write_dependencies(tmp_path)
    write_files(tmp_path)
    sets = load_debian_files(tmp_path)
    assert sets.ptr.dtype == sets.tokens.dtype == sets.y.dtype == torch.int64
    assert len(sets.y) == len(sets.ptr) - 1 == 40 and sets.ptr[1] == 500
    assert torch.equal(sets.tokens[sets.ptr[:-2]], sets.y[:-1])
    assert sets.source.tolist() == [number // 2 * 3 + 2 for number in range(40)]
    assert sets.num_tokens == int(sets.tokens.max()) + 1 and sets.num_classes == 3


@pytest.mark.parametrize(
    ("load", "name"),
    [(load_debian_dependencies, "deps.npz"), (load_debian_files, "files.npz")],
)
def test_missing_and_damaged(tmp_path, load, name):
    with pytest.raises(FileNotFoundError, match=rf"{name} does not exist .*the folder that holds"):
        load(tmp_path)
    (tmp_path / name).write_bytes(b"not a zip")
    with pytest.raises(ValueError, match=rf"{name} is damaged, or is something else"):
        load(tmp_path)
    np.savez(tmp_path / name, section=np.zeros(3))
    with pytest.raises(ValueError, match=rf"{name} is damaged, or is something else \(.*archive"):
        load(tmp_path)


def test_names_that_are_missing_or_unknown(tmp_path):
    write_dependencies(tmp_path)
    write_files(tmp_path)
    names = tmp_path / "deps_nodes.txt.gz"
    for content, message in (
        (b"b:package0", "no node of deps_nodes.txt.gz is 'b:package1'"),
        (None, "deps_nodes.txt.gz is damaged, or is something else"),
    ):
        names.write_bytes(b"1234" if content is None else gzip.compress(content))
        with pytest.raises(ValueError, match=message):
            load_debian_files(tmp_path)
    names.unlink()
    write_dependencies(tmp_path)
    packages = tmp_path / "files_packages.txt.gz"
    packages.write_bytes(gzip.compress(gzip.decompress(packages.read_bytes()) + b"package0\n"))
    with pytest.raises(ValueError, match=r"files_packages.txt.gz must have a line for each of 40"):
        load_debian_files(tmp_path)
    names.unlink()
    with pytest.raises(FileNotFoundError, match=r"deps_nodes.txt.gz does not exist"):
        load_debian_files(tmp_path)
