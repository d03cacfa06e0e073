"""Checkpoints: complete or not there."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lcm_graph.training import CheckpointError, load_checkpoint, save_checkpoint, write_atomically


def test_round_trip_and_no_leftovers(tmp_path):
    path = tmp_path / "deep" / "model.pt"
    weights = {"w": torch.randn(3)}
    state = {"weights": weights, "epoch": 4, "history": [{"loss": 0.5}], "none": None}
    save_checkpoint(path, {"epoch": 1})
    save_checkpoint(path, state)
    loaded = load_checkpoint(path)
    assert torch.equal(loaded["weights"].pop("w"), weights.pop("w"))
    assert loaded == state
    assert list(path.parent.iterdir()) == [path]


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model.pt does not exist; start without resume"):
        load_checkpoint(tmp_path / "model.pt")


@pytest.mark.parametrize("kept", [0, 1, 100, -1])
def test_truncated(tmp_path, kept):
    path = tmp_path / "model.pt"
    save_checkpoint(path, {"w": torch.randn(1000)})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"model.pt cannot be read: it is truncated.*delete"):
        load_checkpoint(path)


def test_foreign_files(tmp_path):
    path = tmp_path / "model.pt"
    path.write_text("hello")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_checkpoint(path)
    torch.save({"w": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match=r"is not a checkpoint of lcm_graph; delete it"):
        load_checkpoint(path)
    torch.save({"format": "lcm_graph.checkpoint", "version": 99, "state": {}}, path)
    with pytest.raises(CheckpointError, match=r"has version 99, this library reads version 1"):
        load_checkpoint(path)


def test_does_not_run_code(tmp_path):
    marker = tmp_path / "executed"

    class Attack:
        def __reduce__(self):
            return Path.touch, (marker,)

    torch.save(Attack(), tmp_path / "model.pt")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "model.pt")
    assert not marker.exists()


def test_full_disk_keeps_the_former_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "model.pt"
    save_checkpoint(path, {"epoch": 1})

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match=r"model.pt \(No space left.*former file is intact"):
        save_checkpoint(path, {"epoch": 2})
    assert load_checkpoint(path) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(CheckpointError, match=r"nothing was written. Free some space"):
        save_checkpoint(tmp_path / "new.pt", {"epoch": 2})
    assert list(tmp_path.iterdir()) == [path]


def test_real_short_write(tmp_path):
    """A file-size limit makes the write itself fail half-way."""
    resource = pytest.importorskip("resource", reason="file-size limits are POSIX only")
    code = f"""
import resource, signal, torch
from lcm_graph.training.checkpoint import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = {str(tmp_path / "model.pt")!r}
save_checkpoint(path, {{"epoch": 1}})
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    save_checkpoint(path, {{"w": torch.zeros(100_000)}})
except CheckpointError as error:
    assert "cannot write" in str(error) and path in str(error), error
else:
    raise AssertionError("no error")
assert load_checkpoint(path) == {{"epoch": 1}}
"""
    assert resource.RLIMIT_FSIZE >= 0
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_parent_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write .*choose another, writable folder"):
        write_atomically(tmp_path / "file" / "x", b"")
