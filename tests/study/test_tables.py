"""Tables of runs whose contents are known."""

import pytest

from lcm_graph.study.associativity_and_accuracy import AssociativityLine
from lcm_graph.study.tables import (
    accuracy_table,
    alone_table,
    associativity_table,
    cost_table,
    median_range,
    rank_table,
)
from tests.study.made_up import made_up_run

pytest.importorskip("tabulate", reason="the extra 'plots' is not installed")


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


RUNS = [
    made_up_run("one", "a", 0, {16: 1.0, 40: 0.5}),
    made_up_run("one", "a", 1, {16: 0.9, 40: 0.5}),
    made_up_run("one", "b", 0, {16: 0.25, 40: None}),
    made_up_run("two", "a", 0, {16: 0.5, 40: 0.25}),
    made_up_run("two", "b", 0, {16: 0.125, 40: 0.75}, diverged="loss is nan"),
]


def test_accuracy():
    header, rule, *rows = cells(accuracy_table(RUNS, "one"))
    assert header == ["", "16", "40"] and rule[0].startswith(":-") and rule[1].endswith("-:")
    assert rows == [
        ["a", "0.950 ± 0.071", "0.500 ± 0.000"],
        ["b", "0.250", "-"],
        ["best constant answer", "0.125", "0.125"],
    ]


def test_what_a_constant_does_as_well_is_in_parentheses():
    runs = [made_up_run("one", "a", 0, {16: 0.1, 40: 0.125})]
    _, _, row, _ = cells(accuracy_table(runs, "one"))
    assert row == ["a", "(0.100)", "(0.125)"]


def test_median_and_range():
    assert median_range([7.4]) == "7"
    assert median_range([9.0, 1.0, 2.2]) == "2 (1-9)"


def test_ranks():
    header, _, *rows = cells(rank_table(RUNS, 40))
    assert header == ["", "one", "two", "mean rank", "first", "first or near"]
    assert rows == [
        ["b", "-", "1*", "1.00", "100%", "100%"],
        ["a", "1*", "2", "1.50", "50%", "50%"],
    ]


def test_alone():
    test = {"alone": 0.5, "batched": 0.25, "change": 3e-7}
    runs = [
        made_up_run("one", "a", 0, {}, alone={"2": test, "16": test | {"change": 1e-7}}),
        made_up_run("one", "b", 0, {}, alone={"2": test | {"change": 0.8}}),
        made_up_run("one", "c", 0, {}),
    ]
    header, _, *rows = cells(alone_table(runs))
    assert header == ["", "2", "16", "largest change"]
    assert rows == [
        ["a", "0.500 / 0.250", "0.500 / 0.250", "3e-07"],
        ["b", "0.500 / 0.250", "-", "8e-01"],
    ]


def test_cost():
    header, _, *rows = cells(cost_table(RUNS))
    assert header == ["", "parameters", "training, s", "runs", "diverged"]
    assert rows == [["a", "10", "2 (2-2)", "3", "0"], ["b", "10", "2 (2-2)", "2", "1"]]


def test_associativity():
    lines = [
        AssociativityLine("a", 0.5, 0.01234, [0.5, 1.0], [0.02, 0.00468]),
        AssociativityLine("b", None, 2.0, [0.25], [2.0]),
    ]
    header, _, *rows = cells(associativity_table(lines, 200))
    assert header == ["", "error after epoch 1", "at the end", "accuracy, 200"]
    assert rows == [["a", "0.5", "0.0123", "0.750 ± 0.354"], ["b", "-", "2", "0.250"]]


def test_nobody_has_a_rank():
    (header, _, *rows) = cells(rank_table([made_up_run("one", "a", 0, {16: 1.0, 40: None})], 40))
    assert header[:3] == ["", "one", "mean rank"] and rows == []
