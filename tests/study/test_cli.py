"""`lcm-graph study` from end to end: all of it, after a kill, and mistakes."""

import json
import signal
import subprocess
import sys
import time

import pytest
import torch

from lcm_graph.cli import main
from lcm_graph.study.config_file import read_config

for extra in ("matplotlib", "tabulate"):
    pytest.importorskip(extra)


@pytest.fixture(autouse=True)
def threads():
    """The command line sets the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_smoke(tmp_path, capsys):
    arguments = ["study", "--config", "smoke", "--out", str(tmp_path)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert out.count(", seed 1: ") == 6 and "12 of 12 runs" in out
    assert out.endswith(f"command: lcm-graph study --config smoke --out {tmp_path}\n")
    saved = json.loads((tmp_path / "results.json").read_text())
    assert saved["command"] == ["lcm-graph", *arguments]
    assert len(saved["results"]["runs"]) == len(list((tmp_path / "runs").iterdir())) == 12
    figures = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"accuracy-majority.png", "evaluation-time.png"} < figures
    assert all(path.stat().st_size > 5000 for path in (tmp_path / "figures").iterdir())
    for test in saved["results"]["alone"]["lcm"].values():
        assert test["alone"] == test["batched"] and test["change"] < 1e-4
    company = saved["results"]["alone"]["pyg-lcm"]["2"]
    assert company["change"] > 0.01 and company["alone"] != company["batched"]

    report = (tmp_path / "report.md").read_text()
    narrow = ["--tasks", "majority", "--subjects", "lcm", "sum", "--seeds", "1", "--report-only"]
    assert main([*arguments, *narrow]) == 0
    out = capsys.readouterr().out
    assert "2 of 2 runs" in out and "pyg-lcm" not in out
    assert main([*arguments, "--report-only"]) == 0
    assert (tmp_path / "report.md").read_text() == report


def test_a_killed_study_goes_on(tmp_path):
    content = {
        "tasks": ["parity", "majority"],
        "subjects": ["sum", "mean", "max"],
        "hidden": 8,
        "train_sets": 2048,
        "epochs": 2,
        "test_sizes": [16],
        "test_sets": 8,
        "rank_sizes": [16],
    }
    config, out = tmp_path / "mine.json", tmp_path / "out"
    config.write_text(json.dumps(content))
    arguments = ["study", "--config", str(config), "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "lcm_graph.cli", *arguments],
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while not list(out.glob("runs/*.json")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = {path: path.read_bytes() for path in out.glob("runs/*.json")}
    assert 1 <= len(kept) < len(read_config(str(config)).runs()) == 6
    assert main(arguments) == 0
    assert len(list(out.glob("runs/*.json"))) == 6
    assert all(path.read_bytes() == content for path, content in kept.items())


def test_the_folder_is_named_after_the_configuration(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    narrow = ["--tasks", "majority", "--subjects", "sum", "--seeds", "0", "--jobs", "1"]
    assert main(["study", "--config", "smoke", *narrow]) == 0
    assert (tmp_path / "out" / "study-smoke" / "report.md").is_file()
    assert "1 of 1 runs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--config", "none"],
            "config must be one of smoke, quick, table2, far, far16, full or a file (got 'none')",
        ),
        (["--jobs", "0"], "--jobs must be at least 1 (got 0)"),
        (["--config", "smoke", "--tasks", "odd"], "tasks must be among second_minimum@4, majority"),
        (["--config", "smoke", "--subjects", "odd"], "subjects must be among sum, mean"),
        (
            ["--config", "smoke", "--seeds", "-1"],
            "seeds must be an integer, at least 0 and at most 1000000000 (got -1)",
        ),
        (["--config", "smoke", "--report-only"], "holds no run of this study yet"),
    ],
)
def test_mistakes_take_one_line(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["study", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("lcm-graph: error: ") and message in captured.err
    assert captured.err.count("\n") == 1


def test_a_mistake_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["study", "--config", "nope"]) == 2
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_said_before_training(tmp_path, monkeypatch, capsys):
    def refuse(*args, **kwargs):
        raise PermissionError(f"no writing in {kwargs['dir']}")

    monkeypatch.setattr("lcm_graph.study.run.tempfile.TemporaryFile", refuse)
    monkeypatch.setattr("lcm_graph.study.run._run", None)  # would fail if called
    assert main(["study", "--config", "smoke", "--out", str(tmp_path)]) == 2
    assert f"no writing in {tmp_path / 'runs'}" in capsys.readouterr().err
