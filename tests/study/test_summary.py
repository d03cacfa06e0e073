"""Values and means of runs that are known."""

import pytest

from lcm_graph.study.summary import alone_and_batched, by_size, trivial_accuracy
from tests.study.made_up import made_up_run


def test_values_of_seeds_come_together():
    runs = [
        made_up_run("t", "a", 0, {16: 0.5, 40: None}),
        made_up_run("t", "b", 0, {16: None, 40: None}),
        made_up_run("t", "a", 1, {16: 0.75, 40: 1.0}),
    ]
    assert by_size(runs, "accuracy") == {"t": {"a": {16: [0.5, 0.75], 40: [1.0]}, "b": {}}}


def test_trivial_accuracy_counts_every_seed_once():
    runs = [
        made_up_run("t", name, seed, {16: 0.5}, trivial={"16": trivial})
        for name, seed, trivial in [("a", 0, 0.2), ("b", 0, 0.2), ("c", 0, None), ("a", 1, 0.4)]
    ]
    assert trivial_accuracy(runs) == {"t": {16: pytest.approx(0.3)}}
    assert trivial_accuracy(runs[2:3]) == {"t": {}}


def test_alone_and_batched_is_the_mean_over_tasks_and_seeds():
    tests = [{"alone": 0.0, "batched": 1.0, "change": 2.0}, {"alone": 1, "batched": 1, "change": 0}]
    runs = [
        made_up_run(task, "a", 0, {}, alone={"2": test})
        for task, test in zip(["one", "two"], tests, strict=True)
    ]
    assert alone_and_batched([*runs, made_up_run("one", "b", 0, {})]) == {
        "a": {2: {"alone": 0.5, "batched": 1.0, "change": 1.0}}
    }
