"""One run: what it reports, and that it repeats."""

import json

from lcm_graph.study.trial import train_and_test
from tests.study.made_up import tiny_config


def without_times(result):
    history = [epoch | {"seconds": None} for epoch in result["history"]]
    return result | {"train_seconds": None, "seconds_per_element": None, "history": history}


def test_a_run_reports_repeats_and_fits_into_json():
    config = tiny_config()
    result = train_and_test(config, config.tasks[0], "lcm", 0)
    assert json.loads(json.dumps(result)) == result
    assert result["sets_seen"] == 128 and result["parameters"] > 0
    assert [epoch["epoch"] for epoch in result["history"]] == [1, 2]
    assert result["train_loss"] == result["history"][-1]["loss"]
    assert result["valid"] == result["history"][result["best_epoch"] - 1]["valid"]
    errors = result["associativity_by_epoch"]
    assert len(errors) == 2 and min(errors) > 0
    assert result["associativity_error"] == errors[result["best_epoch"] - 1]
    assert result["accuracy"].keys() == result["trivial"].keys() == {"16", "40"}
    assert result["alone"].keys() == {"2", "9"} and result["diverged"] is None
    for test in result["alone"].values():
        assert test["alone"] == test["batched"] and test["change"] < 1e-4

    again = train_and_test(config, config.tasks[0], "lcm", 0)
    assert without_times(again) == without_times(result)
    other = train_and_test(config, config.tasks[0], "lcm", 1)
    assert other["train_loss"] != result["train_loss"]


def test_associative_subjects_have_no_error():
    config = tiny_config()
    result = train_and_test(config, config.tasks[1], "sum", 0)
    assert result["associativity_error"] is result["associativity_by_epoch"] is None


def test_a_run_that_diverges_has_answered_nothing():
    config = tiny_config(lr=1e30, epochs=3, clip_norm=None)
    result = train_and_test(config, config.tasks[0], "sum", 0)
    assert "lower lr" in result["diverged"] and result["best_epoch"] is None
    assert result["accuracy"] == {"16": 0.0, "40": 0.0} and result["alone"] == {}
    assert json.loads(json.dumps(result, allow_nan=False)) == result
