"""The file of each run of a study: which run it is of, and with which settings."""

import pytest

from lcm_graph.study.run_files import finished_runs, run_path, run_settings
from lcm_graph.training.run_files import write_run
from tests.study.made_up import tiny_config


def written(out, config=None):
    config = config or tiny_config()
    run = config.runs()[0]
    path = run_path(out, *run)
    write_run(path, run_settings(config, *run), {"accuracy": {"16": 0.5}})
    return path


def test_what_is_written_is_found(tmp_path):
    assert written(tmp_path) == tmp_path / "runs" / "second_minimum@3--sum--0.json"
    (run,) = finished_runs(tiny_config(), tmp_path)
    assert run[:4] == ("second_minimum@3", "sum", 0, {"accuracy": {"16": 0.5}})
    assert run.environment.keys() == {"versions", "commit", "hardware"}
    assert finished_runs(tiny_config(jobs=3, rank_sizes=(16,), seeds=(0, 1)), tmp_path) == [run]


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


def test_another_subject_of_that_name(tmp_path):
    config = tiny_config()
    run = config.runs()[0]
    settings = run_settings(config, *run) | {"aggregation": "other"}
    write_run(run_path(tmp_path, *run), settings, {})
    with pytest.raises(ValueError, match=r"aggregation was 'other' there and is .*Sum.* now"):
        finished_runs(config, tmp_path)
