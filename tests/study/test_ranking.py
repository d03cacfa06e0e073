"""Ranks and noise of runs whose order is known."""

import math
import statistics

import pytest

from lcm_graph.study.ranking import (
    counting_error,
    places,
    places_by_task,
    standard_error,
    standings,
)
from tests.study.made_up import made_up_run


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
        },
        dict.fromkeys(["near", "far", "best", "none", "wild"], 10**9),
    )
    assert {name: place[1:] for name, place in found.items()} == {
        "near": (2, True),
        "far": (3, False),
        "best": (1, True),
        "wild": (4, False),
    }
    assert found["best"].mean == pytest.approx(0.9)
    assert found["wild"].mean == pytest.approx(0.5)


def test_near_first_is_within_what_counting_leaves_open():
    assert counting_error(1.0, 98) == pytest.approx(math.sqrt(0.99 * 0.01 / 100))
    accuracy = {"all": [1.0, 1.0], "one wrong": [1.0, 48 / 49], "four wrong": [47 / 49, 47 / 49]}
    found = places(accuracy, dict.fromkeys(accuracy, 98))
    assert [place.is_near_first for place in found.values()] == [True, False, False]
    found = places(accuracy, dict.fromkeys(accuracy, 40))
    assert [place.is_near_first for place in found.values()] == [True, True, False]


def test_equals_share_the_better_rank():
    found = places({"a": [0.5], "b": [1.0], "c": [1.0], "d": [0.5]}, dict.fromkeys("abcd", 1000))
    assert [place.rank for place in found.values()] == [3, 1, 1, 3]
    assert [place.is_near_first for place in found.values()] == [False, True, True, False]
    assert places({}, {}) == places({"a": []}, {}) == {}


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
