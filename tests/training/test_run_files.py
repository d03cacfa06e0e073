"""A run's file is whole, of these settings, or not there; what is missing is run."""

import json

import pytest

from lcm_graph.training.run_files import read_run, run_missing, write_run

SETTINGS = {"aggr": "sum", "seed": 0, "clip_norm": None, "sizes": [1, 2]}


def test_what_is_written_is_read(tmp_path):
    write_run(tmp_path / "one.json", SETTINGS, {"test": 0.5})
    run = read_run(tmp_path / "one.json", SETTINGS)
    assert run is not None and run[:2] == (SETTINGS, {"test": 0.5})
    assert run.environment.keys() == {"versions", "commit", "hardware"}


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": "other"}'])
def test_what_no_run_wrote_is_no_run(tmp_path, content):
    path = tmp_path / "one.json"
    path.write_text(content)
    assert read_run(path, SETTINGS) is None
    path.unlink()
    assert read_run(path, SETTINGS) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (SETTINGS | {"seed": 1}, "seed was 0 there and is 1 now; use the same settings"),
        (SETTINGS | {"more": 2}, "more was None there and is 2 now"),
        ({"aggr": "sum"}, "seed was 0 there and is None now"),
    ],
)
def test_other_settings(tmp_path, settings, message):
    write_run(tmp_path / "one.json", SETTINGS, {})
    with pytest.raises(ValueError, match=rf"one.json was made with other settings: {message}"):
        read_run(tmp_path / "one.json", settings)


def test_nan_is_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_run(tmp_path / "one.json", SETTINGS, {"test": float("nan")})
    assert not (tmp_path / "one.json").exists()


def halved(number):
    if number == 3:
        raise RuntimeError("three")
    return {"half": number / 2, "pair": (number, number)}


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_is_missing_is_run(tmp_path, jobs):
    runs = {f"run{number}": {"number": number} for number in (1, 2, 4)}
    first = run_missing(halved, {"run2": runs["run2"]}, tmp_path)
    path = tmp_path / "run2.json"
    path.write_text(path.read_text().replace("1.0", "7.0"))  # so that it shows where it came from
    done = []

    def describe(name, result):
        done.append((name, result["half"]))
        return name

    results = run_missing(halved, runs, tmp_path, jobs=jobs, describe=describe)
    assert first["run2"].result == {"half": 1.0, "pair": [2, 2]}
    assert first["run2"].settings == {"number": 2} and first["run2"].environment["versions"]
    assert {name: run.result for name, run in results.items()} == {
        "run1": {"half": 0.5, "pair": [1, 1]},
        "run2": {"half": 7.0, "pair": [2, 2]},
        "run4": {"half": 2.0, "pair": [4, 4]},
    }
    assert list(results) == list(runs) and done == [("run1", 0.5), ("run4", 2.0)]


def test_a_failure_leaves_what_was_done(tmp_path):
    runs = {f"run{number}": {"number": number} for number in (1, 3, 4)}
    with pytest.raises(RuntimeError, match="three"):
        run_missing(halved, runs, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run1.json"]
    assert json.loads((tmp_path / "run1.json").read_text())["result"]["half"] == 0.5


def test_a_file_that_lacks_something_is_no_run(tmp_path):
    path = tmp_path / "one.json"
    write_run(path, SETTINGS, {"test": 0.5})
    whole = json.loads(path.read_text())
    for key in ("settings", "result", "environment"):
        for content in ({k: v for k, v in whole.items() if k != key}, whole | {key: 3}):
            path.write_text(json.dumps(content))
            assert read_run(path, SETTINGS) is None
