"""Molecule data sets: the shipped copy, and everything that can be wrong with a folder."""

import gzip
import os
import pickle
import shutil
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import pytest
import torch

import lcm_graph.datasets.molecules.molecules as molecules_module
from lcm_graph.datasets import load_molecules
from lcm_graph.datasets.molecules.ogb_import import import_ogb
from lcm_graph.datasets.molecules.ogb_raw import fetch

pytest.importorskip("ogb", reason="the extra 'ogb' is not installed")

NAME = "ogbg-molfreesolv"
SHIPPED = Path(molecules_module.__file__).parent / "data" / "ogbg_molfreesolv"
PROCESSED = Path("ogbg_molfreesolv", "processed", "geometric_data_processed.pt")


@pytest.fixture(scope="module")
def shipped():
    return load_molecules(NAME)


@pytest.fixture
def root(tmp_path):
    shutil.copytree(SHIPPED, tmp_path / "ogbg_molfreesolv")
    return tmp_path


@pytest.fixture
def no_questions(monkeypatch):
    def refuse(*_):
        raise AssertionError("input() was called")

    monkeypatch.setattr("builtins.input", refuse)


def test_shipped_copy(shipped):
    assert len(shipped) == 642
    assert {name: len(index) for name, index in shipped.split.items()} == {
        "train": 513,
        "valid": 64,
        "test": 65,
    }
    assert torch.cat(list(shipped.split.values())).sort().values.tolist() == list(range(642))
    assert (shipped.metric, shipped.maximize, shipped.num_tasks) == ("rmse", False, 1)
    assert shipped.task_type == "regression" and shipped.is_regression
    graph = shipped.subset("test")[0]
    assert graph.x.size(1) == 9 and graph.edge_attr.size(1) == 3 and graph.y.shape == (1, 1)
    assert min(g.num_nodes for g in shipped.dataset) == 1  # methane
    assert repr(shipped) == "Molecules('ogbg-molfreesolv', 642 graphs, split 513/64/65)"


def test_labels_are_the_csv_s(shipped):
    with gzip.open(SHIPPED / "raw" / "graph-label.csv.gz", "rt") as file:
        expected = torch.tensor([float(line) for line in file])
    with gzip.open(SHIPPED / "split" / "scaffold" / "test.csv.gz", "rt") as file:
        index = torch.tensor([int(line) for line in file])
    torch.testing.assert_close(shipped.targets("test").squeeze(1), expected[index])


def test_score_is_rmse(shipped):
    truth = shipped.targets("test")
    assert shipped.score(truth, truth + 2) == pytest.approx(2.0)


def test_unknown_split(shipped):
    with pytest.raises(ValueError, match=r"split must be one of train, valid, test \(got 'dev'\)"):
        shipped.subset("dev")


def test_dataset_pickles_for_loader_workers(shipped):
    assert len(pickle.loads(pickle.dumps(shipped.dataset))) == 642


def test_nothing_left_behind(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    load_molecules(NAME)
    assert list(tmp_path.iterdir()) == []
    assert not (SHIPPED / "processed").exists()
    assert capfd.readouterr() == ("", "")  # quiet


def test_root_is_processed_once(root, shipped):
    first = load_molecules(NAME, root)
    assert sorted(path.name for path in (root / PROCESSED).parent.iterdir()) == [PROCESSED.name]
    shutil.rmtree(root / "ogbg_molfreesolv" / "raw")  # not needed any more
    second = load_molecules(NAME, root)
    for data in (first, second):
        assert torch.equal(data.dataset._data.x, shipped.dataset._data.x)
        assert torch.equal(data.dataset._data.edge_index, shipped.dataset._data.edge_index)


def test_pyg_folder_name(root):
    (root / "ogbg_molfreesolv").rename(root / "ogbg_molfreesolv_pyg")
    assert len(load_molecules(NAME, str(root))) == 642


def test_starts_no_thread_and_keeps_outdated():
    code = f"""
import warnings; warnings.simplefilter("ignore")
import sys, threading
started = []
start = threading.Thread.start
threading.Thread.start = lambda self: (started.append(self), start(self))
import lcm_graph.datasets
assert "ogb" not in sys.modules
lcm_graph.datasets.load_molecules({NAME!r})
assert not started and threading.active_count() == 1, started
assert "outdated" not in sys.modules
assert sys.modules["ogb.version"].check_outdated is None
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_outdated_is_restored(monkeypatch):
    present = types.ModuleType("outdated")
    monkeypatch.setitem(sys.modules, "outdated", present)
    import_ogb("ogb")
    assert sys.modules["outdated"] is present


def test_ogb_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ogb", None)
    with pytest.raises(ImportError, match=r"pip install 'lcm-graph\[ogb\]'"):
        load_molecules(NAME)


def test_torch_too_old(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(ImportError, match=r"need torch >= 2.6.*\(got 2.5.1\+cpu\)"):
        load_molecules(NAME)


def test_unknown_name():
    with pytest.raises(ValueError, match=r"name 'ogbg-molhvi' .* try ogbg-molhiv"):
        load_molecules("ogbg-molhvi")
    with pytest.raises(ValueError, match=r"'nonsense' .* ogbg-molbace, .*ogbg-molhiv"):
        load_molecules("nonsense")


def test_no_root_for_a_data_set_not_shipped():
    with pytest.raises(ValueError, match=r"root must be given for 'ogbg-molhiv'"):
        load_molecules("ogbg-molhiv")


def test_folder_missing(tmp_path, no_questions):
    with pytest.raises(FileNotFoundError) as caught:
        load_molecules("ogbg-molhiv", tmp_path)
    message = str(caught.value)
    for part in (str(tmp_path / "ogbg_molhiv"), f"root={str(tmp_path)!r}", "download=True"):
        assert part in message
    assert list(tmp_path.iterdir()) == []


def test_release_missing(root, no_questions):
    (root / "ogbg_molfreesolv" / "RELEASE_v1.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"RELEASE_v1.txt is missing.*delete the folder"):
        load_molecules(NAME, root)


@pytest.mark.parametrize("file", ["raw/edge-feat", "raw/num-node-list", "split/scaffold/valid"])
def test_file_missing(root, no_questions, file):
    (root / "ogbg_molfreesolv" / f"{file}.csv.gz").unlink()
    with pytest.raises(FileNotFoundError, match=rf"{file}.csv.gz is missing.*copy it again"):
        load_molecules(NAME, root)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("raw/edge", "truncated"),
        ("raw/graph-label", "foreign"),
        ("raw/node-feat", "empty"),
        ("split/scaffold/test", "truncated"),
    ],
)
def test_damaged_gzip(root, file, damage):
    path = root / "ogbg_molfreesolv" / f"{file}.csv.gz"
    content = path.read_bytes()
    path.write_bytes(
        {"truncated": content[: len(content) // 2], "foreign": b"<html>", "empty": b""}[damage]
    )
    named = r".csv.gz is damaged.*again" if damage != "empty" else r"(damaged|cannot be processed)"
    with pytest.raises(ValueError, match=rf"{'' if damage == 'empty' else file}{named}"):
        load_molecules(NAME, root)
    assert not (root / PROCESSED).exists() or file.startswith("split")


@pytest.mark.parametrize("file", ["edge", "node-feat", "num-node-list", "graph-label"])
def test_csv_cut_at_a_line(root, file):
    path = root / "ogbg_molfreesolv" / "raw" / f"{file}.csv.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(lines[: len(lines) // 2])))
    with pytest.raises(ValueError, match=r"raw cannot be processed .*do not fit together"):
        load_molecules(NAME, root)
    assert not (root / PROCESSED).exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a zip"])
def test_corrupt_processed_file(root, content):
    (root / PROCESSED).parent.mkdir()
    (root / PROCESSED).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{PROCESSED.name} cannot be used .*delete it"):
        load_molecules(NAME, root)
    (root / PROCESSED).unlink()
    assert len(load_molecules(NAME, root)) == 642


def test_processed_file_cannot_run_code(root, tmp_path):
    marker = tmp_path / "executed"

    class Attack:
        def __reduce__(self):
            return Path.touch, (marker,)

    (root / PROCESSED).parent.mkdir()
    torch.save(Attack(), root / PROCESSED)
    (root / PROCESSED).with_name("pre_transform.pt").write_bytes((root / PROCESSED).read_bytes())
    with pytest.raises(ValueError, match="delete it"):
        load_molecules(NAME, root)
    assert not marker.exists()


def test_killed_while_processing_leaves_nothing_behind(root, monkeypatch):
    def fail(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", fail)
        with pytest.raises(KeyboardInterrupt):
            load_molecules(NAME, root)
    assert list((root / PROCESSED).parent.iterdir()) == []
    assert len(load_molecules(NAME, root)) == 642


def test_folder_not_writable(root):
    if os.geteuid() == 0:  # root ignores permissions: a file in the way gives an OSError too
        (root / PROCESSED).parent.write_text("in the way")
    else:
        (root / "ogbg_molfreesolv").chmod(0o555)
    with pytest.raises(PermissionError, match=r"cannot write .*copy the folder .* as root"):
        load_molecules(NAME, root)


def test_download(tmp_path, shipped, monkeypatch, no_questions):
    archive = tmp_path / "freesolv.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in SHIPPED.rglob("*"):
            file.write(path, Path("freesolv", path.relative_to(SHIPPED)))
    metadata = molecules_module._metadata(NAME) | {"url": archive.as_uri()}
    monkeypatch.setattr(molecules_module, "_metadata", lambda _: metadata)
    loaded = load_molecules(NAME, tmp_path / "new", download=True)
    assert torch.equal(loaded.dataset._data.x, shipped.dataset._data.x)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["ogbg_molfreesolv"]


def test_failed_download_keeps_nothing(tmp_path):
    (tmp_path / "bad.zip").write_bytes(b"not a zip")
    for url in ((tmp_path / "bad.zip").as_uri(), (tmp_path / "absent.zip").as_uri()):
        with pytest.raises(RuntimeError, match=r"could not download .*nothing was kept"):
            fetch(url, "x", tmp_path / "new" / "ogbg_x")
    assert list((tmp_path / "new").iterdir()) == []


def test_molhiv(tmp_path):
    if not (data := os.environ.get("LCM_DATA")):
        pytest.skip("LCM_DATA is not set: the folder that holds ogb/ogbg_molhiv")
    shutil.copytree(
        Path(data, "ogb", "ogbg_molhiv"), tmp_path / "ogbg_molhiv", copy_function=shutil.copyfile
    )
    for folder in (tmp_path / "ogbg_molhiv", *(tmp_path / "ogbg_molhiv").rglob("*")):
        folder.chmod(0o755)
    molhiv = load_molecules("ogbg-molhiv", tmp_path)
    assert [len(index) for index in molhiv.split.values()] == [32901, 4113, 4113]
    positives = [int(molhiv.targets(split).sum()) for split in ("train", "valid", "test")]
    assert positives == [1232, 81, 130]
    assert (molhiv.metric, molhiv.maximize) == ("rocauc", True)
