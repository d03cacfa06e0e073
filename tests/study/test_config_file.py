"""Configurations from JSON."""

import json

import pytest

from lcm_graph.study import PRESETS, TaskSpec, read_config
from lcm_graph.study.config_file import parse_config

LEAST = {"tasks": ["parity"], "subjects": ["sum"]}


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name):
    config = read_config(name)
    assert len(config.runs()) == len(config.tasks) * len(config.subjects) * len(config.seeds)


def test_tasks_by_name_and_with_bits(tmp_path):
    path = tmp_path / "mine.json"
    tasks = {"parity": {}, "min2@16": {"function": "second_minimum", "bits": 16}}
    path.write_text(json.dumps({**LEAST, "tasks": tasks, "seeds": [4, 5], "hidden": 16}))
    config = read_config(str(path))
    assert config.tasks == (
        TaskSpec("parity", "parity"),
        TaskSpec("min2@16", "second_minimum", 16),
    )
    assert (config.seeds, config.hidden, config.subjects) == ((4, 5), 16, ("sum",))
    assert parse_config(LEAST).tasks == (TaskSpec("parity", "parity"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], r"the configuration must be an object \(got \[\]\)"),
        ({"subjects": ["sum"]}, r"tasks must be given"),
        ({**LEAST, "epoch": 3}, r"unknown key 'epoch'; known are tasks, .*epochs"),
        ({**LEAST, "tasks": "parity"}, r"tasks must be a list of names, or an object"),
        ({**LEAST, "tasks": ["odd"]}, r"function must be one of .*\(got 'odd'\)"),
        ({**LEAST, "tasks": ["mode", "mode"]}, r"tasks must not name anything twice"),
        ({**LEAST, "tasks": {"a": {"bit": 3}}}, r"task 'a': unknown key 'bit'; known are function"),
        ({**LEAST, "tasks": {"mode": 3}}, r"task 'mode' must be an object \(got 3\)"),
        ({**LEAST, "subjects": "sum"}, r"subjects must be a list \(got 'sum'\)"),
        ({**LEAST, "subjects": ["odd"]}, r"subjects must be among sum, .*\(got 'odd'\)"),
        ({**LEAST, "seeds": 3}, r"seeds must be a list \(got 3\)"),
    ],
)
def test_bad_content(tmp_path, content, message):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"config .*bad.json: .*{message}"):
        read_config(str(path))


def test_no_file_and_no_json(tmp_path):
    with pytest.raises(
        ValueError, match=r"smoke, quick, table2, far, far16, full or a file \(got 'smok'\)"
    ):
        read_config("smok")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ValueError, match=r"config .*bad.json: Expecting"):
        read_config(str(tmp_path / "bad.json"))
