"""Means, ranks and noise of runs whose order is known."""

import math
import statistics

import pytest

from lcm_graph.study.summary import (
    alone_and_batched,
    by_size,
    places,
    places_by_task,
    standard_error,
    standings,
    trivial_accuracy,
)
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


def test_near_first_is_within_the_best_mean_s_standard_error():
    best = [0.8, 0.9, 1.0]
    error = statistics.stdev(best) / math.sqrt(3)
    assert standard_error(best) == pytest.approx(error) and standard_error([0.3]) == 0
    found = places(
        {
            "near": [0.9 - 0.99 * error] * 3,
            "far": [0.9 - 1.01 * error] * 3,
            "best": best,
            "none": [],
            "wild": [0.1, 0.5, 0.9],
        }
    )
    assert {name: place[1:] for name, place in found.items()} == {
        "near": (2, True),
        "far": (3, False),
        "best": (1, True),
        "wild": (4, False),
    }
    assert found["best"].mean == pytest.approx(0.9)
    assert found["wild"].mean == pytest.approx(0.5)


def test_equals_share_the_better_rank():
    found = places({"a": [0.5], "b": [1.0], "c": [1.0], "d": [0.5]})
    assert [place.rank for place in found.values()] == [3, 1, 1, 3]
    assert [place.is_near_first for place in found.values()] == [False, True, True, False]
    assert places({}) == places({"a": []}) == {}


def test_standings():
    runs = [
        made_up_run("one", "a", 0, {40: 0.5}),
        made_up_run("one", "b", 0, {40: 0.6}),
        made_up_run("one", "c", 0, {40: 0.4}),
        made_up_run("two", "a", 0, {40: 1.0}),
        made_up_run("two", "b", 0, {40: 1.0}),
        made_up_run("two", "c", 0, {40: None}),
    ]
    placed = places_by_task(runs, 40)
    assert list(placed["two"]) == ["a", "b"]
    assert standings(placed) == {
        "b": (1.0, 1.0, 1.0, 2),
        "a": (1.5, 0.5, 0.5, 2),
        "c": (3.0, 0.0, 0.0, 1),
    }
    assert list(standings(placed)) == ["b", "a", "c"]


def test_alone_and_batched_is_the_mean_over_tasks_and_seeds():
    tests = [{"alone": 0.0, "batched": 1.0, "change": 2.0}, {"alone": 1, "batched": 1, "change": 0}]
    runs = [
        made_up_run(task, "a", 0, {}, alone={"2": test})
        for task, test in zip(["one", "two"], tests, strict=True)
    ]
    assert alone_and_batched([*runs, made_up_run("one", "b", 0, {})]) == {
        "a": {2: {"alone": 0.5, "batched": 1.0, "change": 1.0}}
    }
