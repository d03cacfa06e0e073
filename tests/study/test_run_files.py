"""A run's file is whole, of these settings, or not there."""

import json

import pytest

from lcm_graph.study.run_files import (
    finished_runs,
    read_run,
    run_path,
    run_settings,
    write_run,
)
from tests.study.made_up import tiny_config


def written(out, config=None, result=None):
    config = config or tiny_config()
    run = config.runs()[0]
    path, settings = run_path(out, *run), run_settings(config, *run)
    write_run(path, settings, result or {"accuracy": {"16": 0.5}})
    return path, settings


def test_what_is_written_is_read(tmp_path):
    path, settings = written(tmp_path)
    assert path == tmp_path / "runs" / "second_minimum@3--sum--0.json"
    run = read_run(path, settings)
    assert run is not None and run[:4] == ("second_minimum@3", "sum", 0, {"accuracy": {"16": 0.5}})
    assert run.environment.keys() == {"versions", "hardware"}
    assert finished_runs(tiny_config(), tmp_path) == [run]
    assert finished_runs(tiny_config(jobs=3, rank_sizes=(16,), seeds=(0, 1)), tmp_path) == [run]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": "other"}'])
def test_what_no_run_wrote_is_no_run(tmp_path, content):
    path, settings = written(tmp_path)
    path.write_text(content)
    assert read_run(path, settings) is None
    path.unlink()
    assert read_run(path, settings) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 3}, "epochs was 2 there and is 3 now"),
        ({"test_sizes": (16, 40, 80)}, r"test_sizes was \[16, 40\] there and is \[16, 40, 80\]"),
        ({"clip_norm": None}, "clip_norm was 1.0 there and is None now"),
    ],
)
def test_other_settings(tmp_path, changes, message):
    written(tmp_path)
    with pytest.raises(ValueError, match=rf"--sum--0.json was made with other .*: {message}"):
        finished_runs(tiny_config(**changes), tmp_path)


def test_another_subject_of_that_name_and_a_setting_more(tmp_path):
    path, settings = written(tmp_path)
    with pytest.raises(ValueError, match=r"aggregation was .*Sum.* there and is 'other' now"):
        read_run(path, settings | {"aggregation": "other"})
    content = json.loads(path.read_text())
    content["settings"]["old"] = 1
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"old was 1 there and is None now; use the same settings"):
        read_run(path, settings)
