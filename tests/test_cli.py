"""The command line: small runs of every command, and one line for every mistake."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import lcm_graph.datasets.molecules.molecules as molecules_module
from lcm_graph import cli
from lcm_graph.cli import main
from lcm_graph.training import MoleculeGNN, Training
from lcm_graph.training.experiments import count_parameters

for extra in ("ogb", "matplotlib", "tabulate"):
    pytest.importorskip(extra)

TINY = ["--epochs", "1", "--hidden", "8"]
FREESOLV = ["train", "ogbg-molfreesolv", "--aggr", "sum", "--num-layers", "1", *TINY]


@pytest.fixture(autouse=True)
def threads():
    """The command line sets the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def results(folder):
    return json.loads((folder / "results.json").read_text())


def test_generalise(tmp_path, capsys):
    arguments = [
        "generalise",
        "--aggr",
        "sum",
        "lcm",
        "--test-sizes",
        "16",
        "4",
        "--num-sets",
        "64",
    ]
    assert main([*arguments, *TINY, "--batch-size", "32", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line[:1].isalpha()}
    assert lines["aggregation"][1:3] == ["4", "16"] and "most common answer" in out
    saved = results(tmp_path)
    assert saved["command"][:2] == ["lcm-graph", "generalise"]
    accuracy = saved["results"]["generalisation"]["lcm"]["accuracy"]
    assert [f"{accuracy[size]:.3f}" for size in ("4", "16")] == lines["lcm"][1:3]
    assert (tmp_path / "generalisation.png").read_bytes().startswith(b"\x89PNG")


def test_jobs_give_the_same_results(tmp_path):
    arguments = [*FREESOLV, "--runs", "2"]
    for jobs in ("1", "2"):
        assert main([*arguments, "--jobs", jobs, "--out", str(tmp_path / jobs)]) == 0
    one, two = (results(tmp_path / jobs)["results"]["molecules"]["sum"]["runs"] for jobs in "12")
    for a, b in zip(one, two, strict=True):
        assert a | {"seconds_per_epoch": 0} == b | {"seconds_per_epoch": 0}


def test_train_runs_seeds_and_resumes(tmp_path, capsys):
    arguments = [*FREESOLV, "--runs", "2", "--seed", "5", "--out", str(tmp_path)]
    assert main(arguments) == 0
    first = results(tmp_path)["results"]["molecules"]["sum"]
    assert first["metric"] == "rmse" and [run["seed"] for run in first["runs"]] == [5, 6]
    assert {"sum-seed5.pt", "sum-seed6.pt"} < {path.name for path in tmp_path.iterdir()}
    assert " ± " in capsys.readouterr().out
    assert main([*arguments, "--resume"]) == 0
    assert results(tmp_path)["results"]["molecules"]["sum"] == first

    assert main(arguments) == 2
    assert "holds runs already (sum-seed5.pt)" in capsys.readouterr().err
    assert results(tmp_path)["results"]["molecules"]["sum"] == first

    assert main([*arguments, "--resume", "--lr", "0.5"]) == 2
    error = capsys.readouterr().err
    assert "cannot resume from" in error and "lr was 0.001 there and is 0.5 now" in error


def test_train_with_other_layers_and_another_readout(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [*FREESOLV, "--runs", "1", "--aggr", "pna", "--readout", "lcm", "--conv", "gcn"]
    assert main(arguments) == 0
    found = results(tmp_path / "out" / "ogbg-molfreesolv-pna-lcm-gcn")
    (run,) = found["results"]["molecules"]["pna"]["runs"]
    degree = torch.tensor([0, 1, 2])
    model = MoleculeGNN("pna", 8, 1, readout="lcm", conv="gcn", degree=degree)
    assert run["parameters"] == count_parameters(model)
    assert main([*arguments, "--readout", "most"]) == 2
    assert "--readout must be one of sum, mean, " in capsys.readouterr().err


def test_train_with_a_root_of_one_s_own(tmp_path):
    shipped = Path(molecules_module.__file__).parent / "data" / "ogbg_molfreesolv"
    shutil.copytree(shipped, tmp_path / "ogbg_molfreesolv")
    arguments = [*FREESOLV, "--runs", "1", "--root", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert (tmp_path / "ogbg_molfreesolv" / "processed").is_dir()


def test_demo(tmp_path, capsys, monkeypatch):
    tiny = Training(epochs=1, lr=0.01, batch_size=512, hidden=8)
    monkeypatch.setattr(cli, "_DEMO_SETS", tiny)
    monkeypatch.setattr(cli, "_DEMO_NUM_SETS", 512)
    monkeypatch.setattr(cli, "_DEMO_MOLECULES", tiny)
    assert main(["demo", "--jobs", "1", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    for part in (
        "accuracy by set size",
        "most common answer",
        "reloaded: same",
        "ogbg-molfreesolv",
    ):
        assert part in out
    saved = results(tmp_path)["results"]
    assert list(saved["generalisation"]) == ["sum", "max", "gru", "lcm", "topk"]
    assert {name: len(done["runs"]) for name, done in saved["molecules"].items()} == {
        "sum": 3,
        "lcm": 3,
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "generalisation.png",
        "lcm.pt",
        "results.json",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "ogbg-molhvi"], "try ogbg-molhiv"),
        (["train", "ogbg-molhiv"], "root must be given for 'ogbg-molhiv'"),
        (["train", "ogbg-molhiv", "--root", "nowhere"], "nowhere/ogbg_molhiv does not exist"),
        ([*FREESOLV, "--aggr", "magic"], "--aggr must be one of sum, "),
        ([*FREESOLV, "--runs", "0"], "--runs must be at least 1 (got 0)"),
        ([*FREESOLV, "--epochs", "0"], "--epochs must be at least 1 (got 0)"),
        ([*FREESOLV, "--dropout", "1"], "--dropout must be in [0, 1) (got 1.0)"),
        ([*FREESOLV, "--lr", "nan"], "--lr must be positive (got nan)"),
        ([*FREESOLV, "--seed", "-1"], "--seed must not be negative (got -1)"),
        ([*FREESOLV, "--device", "toaster"], "toaster"),
        ([*FREESOLV, "--lr", "1e30", "--epochs", "3"], "lower lr"),
        (["generalise", "--aggr", "sum", "magic"], "--aggr must be one of sum, "),
        (["generalise", "--train-sizes", "1", "4"], "min_size must be at least 2"),
        (["generalise", "--test-sizes", "1"], "min_size must be at least 2"),
    ],
)
def test_mistakes_take_one_line(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("lcm-graph: error: ") and message in captured.err
    assert captured.err.count("\n") == 1 and "Traceback" not in captured.err


def test_no_cuda(tmp_path, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert main([*FREESOLV, "--device", "cuda", "--out", str(tmp_path)]) == 2
    assert "no CUDA device here; use --device cpu" in capsys.readouterr().err


def test_out_is_a_file(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main([*FREESOLV, "--out", str(tmp_path / "file")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(ValueError, match="ogbg-molhiv"):
        main(["train", "ogbg-molhvi", "--debug", "--out", str(tmp_path)])


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["train"], ["demo", "--nonsense"]])
def test_usage_errors(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: lcm-graph" in capsys.readouterr().err
