"""Errors beside accuracies that are known."""

import pytest

from lcm_graph.study.associativity_and_accuracy import AssociativityLine, associativity, gamma
from tests.study.made_up import made_up_run


def test_associativity_is_the_mean_over_seeds_of_what_is_not_associative():
    def run(subject, seed, accuracy, *errors):
        result = {"associativity_error": errors[-1], "associativity_by_epoch": list(errors)}
        return made_up_run("t", subject, seed, {40: accuracy}, **result)

    exact = made_up_run("t", "exact", 0, {40: 1.0})
    runs = [
        run("a", 0, 0.25, None, 0.5),
        run("b", 0, 0.5, 0.75, 0.25),
        run("b", 1, 1.0, 0.25, 0.125),
        run("b", 2, 0.0, None),
        run("no accuracy", 0, None, 0.5, 0.5),
        exact,
    ]
    lines = [
        AssociativityLine("b", 0.5, 0.1875, [0.5, 1.0, 0.0], [0.25, 0.125, None]),
        AssociativityLine("a", None, 0.5, [0.25], [0.5]),
    ]
    assert associativity(runs, 40) == {"t": lines}
    assert associativity([exact], 40) == {}
    assert gamma(lines) == 1.0 and gamma(lines[1:]) is None


def test_gamma_counts_pairs():
    def line(*runs):
        errors, accuracy = zip(*runs, strict=True)
        return AssociativityLine("", None, 0.0, list(accuracy), list(errors))

    assert gamma([line((0.1, 0.9), (0.2, 0.5)), line((0.3, 0.7))]) == pytest.approx(1 / 3)
    assert gamma([line((0.1, 0.1), (0.2, 0.2), (0.2, 0.3))]) == -1.0
    assert gamma([line((0.1, 0.1), (0.1, 0.2))]) is None
