"""A study goes on where it stopped."""

import json

import pytest
import torch

from lcm_graph.study import run_study
from lcm_graph.study.run_files import finished_runs
from tests.study.made_up import tiny_config


def contents(out):
    return {path.name: path.read_bytes() for path in (out / "runs").iterdir()}


def test_only_what_is_missing_is_done(tmp_path, capsys):
    config = tiny_config()
    threads = torch.get_num_threads()
    run_study(config, tmp_path)
    assert torch.get_num_threads() == threads
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[0].startswith("  second_minimum@3, sum, seed 0: 16: ")
    before = contents(tmp_path)
    assert len(before) == 4 and len(finished_runs(config, tmp_path)) == 4

    run_study(config, tmp_path)
    assert capsys.readouterr().out == "" and contents(tmp_path) == before

    gone = "parity--lcm--0.json"
    (tmp_path / "runs" / gone).unlink()
    run_study(config, tmp_path)
    assert capsys.readouterr().out.startswith("  parity, lcm, seed 0: ")
    after = contents(tmp_path)
    redone = json.loads(after.pop(gone))["result"]
    first = json.loads(before.pop(gone))["result"]
    assert after == before
    for key in ("accuracy", "alone", "train_loss", "associativity_by_epoch"):
        assert redone[key] == first[key]


def test_other_settings_are_refused_before_anything_runs(tmp_path, capsys):
    run_study(tiny_config(subjects=("sum",)), tmp_path)
    capsys.readouterr()
    with pytest.raises(ValueError, match=r"lr was 0.008 there and is 0.1 now"):
        run_study(tiny_config(subjects=("mean", "sum"), lr=0.1), tmp_path)
    assert capsys.readouterr().out == ""


def test_a_subject_that_cannot_be_made_is_refused_before_anything_runs(tmp_path, capsys):
    with pytest.raises(ValueError, match="hidden must be a multiple of 4"):
        run_study(tiny_config(subjects=("sum", "pyg-set-transformer"), hidden=6), tmp_path)
    assert capsys.readouterr().out == "" and not (tmp_path / "runs").exists()
