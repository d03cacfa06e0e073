"""Aggregations compared over seeds."""

import json
import re
import sys

import pytest
import torch

from lcm_graph import regularization
from lcm_graph.aggregators import MixAggregation
from lcm_graph.datasets import load_molecules
from lcm_graph.training import (
    MoleculeGNN,
    MoleculeTask,
    compare,
    comparison_parser,
    fit_and_test,
)
from lcm_graph.training.comparison import step_memory

FAILURES = {
    10: MemoryError(),
    11: FloatingPointError("loss is nan"),
    12: ValueError("a mistake"),
    13: RuntimeError("shapes"),
}


def run(aggr, seed, epochs, device, scale):
    assert torch.get_num_threads() == 1
    if scale == seed:
        raise RuntimeError(f"you can't allocate memory for {aggr}\nat all")
    if scale in FAILURES:
        raise FAILURES[scale]
    return {"score": scale * (len(aggr) + seed) / epochs}


def parsed(out, *arguments):
    parser = comparison_parser(None, aggr=["sum", "lcm-assoc"], runs=2, epochs=4)
    return parser.parse_args([*arguments, *(["--out", str(out)] if out else [])])


COLUMNS = {"score": lambda result: result["score"]}


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_table_and_results(tmp_path, capsys, monkeypatch, jobs):
    monkeypatch.setattr(sys, "argv", ["script.py", "--jobs", jobs])
    threads = torch.get_num_threads()
    arguments = parsed(tmp_path, "--jobs", jobs)
    results = compare(run, arguments, {"scale": 2}, COLUMNS, name="odd")
    assert torch.get_num_threads() == threads
    assert results == {
        "sum": [{"score": 1.5}, {"score": 2.0}],
        "lcm-assoc": [{"score": 4.5}, {"score": 5.0}],
    }
    printed = capsys.readouterr().out
    assert "sum--1: score 2\n" in printed and "1.750 ± 0.354" in printed
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["results"]["runs"] == results
    for where in content["results"]["environments"]["lcm-assoc"]:
        assert where["hardware"]["torch_threads"] == 1  # of the runs
    assert content["command"] == ["python", "script.py", "--jobs", jobs]
    assert content["settings"]["scale"] == 2 and content["settings"]["aggr"] == ["sum", "lcm-assoc"]
    arguments = parsed(tmp_path, "--aggr", "sum", "--runs", "1")
    again = compare(run, arguments, {"scale": 2}, COLUMNS, name="odd")
    assert again == {"sum": [{"score": 1.5}]} and "sum--0:" not in capsys.readouterr().out
    message = r"script.py: .*sum--0.json was made with other settings: scale was 2"
    with pytest.raises(SystemExit, match=message):
        compare(run, parsed(tmp_path), {"scale": 3}, COLUMNS, name="odd")


def test_one_that_fails_leaves_the_others(tmp_path, capsys):
    failed = {"failed": "RuntimeError: you can't allocate memory for sum"}
    for _ in range(2):  # once more from what is kept
        arguments = parsed(tmp_path, "--aggr", "sum")
        results = compare(run, arguments, {"scale": 1}, COLUMNS, name="odd")
        assert results == {"sum": [{"score": 0.75}, failed]}
        assert re.search(r"sum \(1 of 2 runs\) +0.750", capsys.readouterr().out)
    arguments = parsed(tmp_path / "other", "--aggr", "sum", "--runs", "1")
    assert compare(run, arguments, {"scale": 0}, COLUMNS, name="odd") == {"sum": [failed]}
    assert (
        "failed: RuntimeError: you can't allocate memory for sum"
        in capsys.readouterr().out.splitlines()[-1]
    )


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (10, "MemoryError: "),
        (11, "FloatingPointError: loss is nan"),
        (float("nan"), "ValueError: Out of range float values are not JSON compliant"),
    ],
)
def test_failures_are_results(tmp_path, scale, message):
    arguments = parsed(tmp_path, "--aggr", "sum", "--runs", "1")
    wanted = {"scale": scale if scale == scale else "nan"}
    function = run if scale == scale else nan_run
    results = compare(function, arguments, wanted, COLUMNS, name="odd")
    assert results["sum"][0]["failed"].startswith(message)


def nan_run(aggr, seed, epochs, device, scale):
    return {"score": float(scale)}


def test_mistakes_are_raised(tmp_path):
    arguments = parsed(tmp_path, "--aggr", "sum", "--runs", "1")
    with pytest.raises(RuntimeError, match="shapes"):
        compare(run, arguments, {"scale": 13}, COLUMNS, name="odd")
    assert not list((tmp_path / "runs").glob("*"))
    with pytest.raises(SystemExit, match="a mistake"):
        compare(run, arguments, {"scale": 12}, COLUMNS, name="odd")


def test_runs_of_other_data_are_not_compared(tmp_path, capsys):
    arguments = parsed(tmp_path)
    settings = {"changed": ["lcm-assoc"]}
    with pytest.raises(SystemExit, match=r"seed 0 must be of the same data; sum had .*1.*had.*2"):
        compare(run_of_some_data, arguments, settings, {}, name="odd")
    assert not (tmp_path / "results.json").exists()
    for path in (tmp_path / "runs").glob("lcm*"):  # as it was told
        content = json.loads(path.read_text())
        content["result"]["task"] = "data 1"
        content["environment"]["commit"] = "another"
        path.write_text(json.dumps(content))
    compare(run_of_some_data, arguments, settings, {}, name="odd")
    assert "the runs are of several commits: " in capsys.readouterr().out
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["results"]["runs"]["sum"][0] == {"task": "data 1"}  # the history in its file
    kept = json.loads((tmp_path / "runs" / "sum--0.json").read_text())
    assert kept["result"]["history"] == [[0.5, 0.25]]


def test_a_folder_holds_one_comparison(tmp_path, capsys):
    compare(run, parsed(tmp_path, "--aggr", "sum"), {"scale": 2}, COLUMNS, name="odd")
    capsys.readouterr()
    arguments = parsed(tmp_path, "--aggr", "lcm-assoc", "--runs", "1")
    with pytest.raises(SystemExit, match=r"sum--0.json was made with other settings: scale was 2"):
        compare(run, arguments, {"scale": 3}, COLUMNS, name="odd")
    assert not list(tmp_path.glob("runs/lcm*"))
    compare(run, arguments, {"scale": 2}, COLUMNS, name="odd")
    assert f"in {tmp_path} are sum too: to have all in one table" in capsys.readouterr().out


def run_of_some_data(aggr, seed, epochs, device, changed):
    return {"task": f"data {1 + (aggr in changed)}", "history": [[0.5, 0.25]]}


def test_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    compare(run, parsed(None), {"scale": 2}, COLUMNS, name="one")
    compare(run, parsed(None, "--smoke"), {"scale": 3}, COLUMNS, name="one")
    assert {path.parent.name for path in tmp_path.rglob("results.json")} == {"one", "one-smoke"}


@pytest.mark.parametrize("option", ["--runs", "--epochs", "--jobs"])
def test_bad_options(tmp_path, option):
    with pytest.raises(SystemExit, match=rf"{option} must be at least 1 \(got 0\)"):
        compare(run, parsed(tmp_path, option, "0"), {"scale": 2}, COLUMNS, name="odd")
    with pytest.raises(SystemExit):
        parsed(tmp_path, "--aggr", "odd")
    with pytest.raises(SystemExit, match=r"--device must be one that torch has \(got odd\)"):
        compare(run, parsed(tmp_path, "--device", "odd"), {"scale": 2}, COLUMNS, name="odd")


@pytest.fixture
def task():
    molecules = load_molecules("ogbg-molfreesolv")
    return MoleculeTask(molecules, batch_size=128)


def test_a_step_takes_memory_and_leaves_the_model(task):
    model = MoleculeGNN("lcm-assoc", 32, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    small, large = (step_memory(MoleculeGNN("sum", width, 2), task) for width in (8, 256))
    state = torch.get_rng_state()
    assert step_memory(model, task) > 0 and large > 4 * max(small, 2**18)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert regularization(model) == 0
    assert model.training


def test_a_mix_has_chosen_in_time(task):
    """Whatever the number of steps: here 15."""
    torch.manual_seed(0)
    model = MoleculeGNN("mix", 8, 1, readout="mix")
    found = fit_and_test(model, task, epochs=3, lr=1e-2, seed=0, device="cpu")
    assert found["best_epoch"] == 3 and task.steps_per_epoch == 5
    assert found["task"] == repr(task)
    assert len(found["history"]) == 3 and found["history"][2][1] == found["valid"]
    for module in model.modules():
        if isinstance(module, MixAggregation):
            phases = module.factor_choice
            assert (phases.warmup, phases.choice) == (2, 3) and phases.has_chosen
