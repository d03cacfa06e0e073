"""Whether what is more associative is more accurate."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from lcm_graph.study.run_files import Run


class AssociativityLine(NamedTuple):
    """How associative a subject is on one task, and how accurate.

    Attributes:
        subject: its name.
        first: relative associativity error after the first epoch, the mean over seeds; None if it
            was never finite.
        last: that of the tested weights.
        accuracy: of each seed, at one size.
        errors: that of the tested weights, of each seed; None where there is none: training
            diverged, or nothing that is not associative was left.
    """

    subject: str
    first: float | None
    last: float
    accuracy: list[float]
    errors: list[float | None]


def associativity(runs: Sequence[Run], size: int) -> dict[str, list[AssociativityLine]]:
    """task -> subjects with an error that is not 0, from the most to the least accurate."""
    collected: dict[str, dict[str, list[tuple[float | None, float | None, float]]]] = {}
    for run in runs:
        accuracy = run.result["accuracy"].get(str(size))
        if accuracy is not None:
            first, *_ = run.result["associativity_by_epoch"] or [None]
            seed = (first or None, run.result["associativity_error"] or None, accuracy)
            collected.setdefault(run.task, {}).setdefault(run.subject, []).append(seed)
    found: dict[str, list[AssociativityLine]] = {}
    for task, subjects in collected.items():
        for name, seeds in subjects.items():
            firsts = [first for first, _, _ in seeds if first is not None]
            errors = [error for _, error, _ in seeds]
            last = [error for error in errors if error is not None]
            if last:
                line = AssociativityLine(
                    name,
                    statistics.fmean(firsts) if firsts else None,
                    statistics.fmean(last),
                    [accuracy for _, _, accuracy in seeds],
                    errors,
                )
                found.setdefault(task, []).append(line)
    for lines in found.values():
        lines.sort(key=lambda line: -statistics.fmean(line.accuracy))
    return found


def gamma(lines: Sequence[AssociativityLine]) -> float | None:
    """Goodman and Kruskal's γ between associativity and accuracy, over the pairs of all runs that
    have an error.

    1: of any two runs, that with the larger error is less accurate; -1: it is more accurate. Pairs
    with equal errors or accuracies do not count; None if there are no others.
    """
    runs = [
        (error, accuracy)
        for line in lines
        for error, accuracy in zip(line.errors, line.accuracy, strict=True)
        if error is not None
    ]
    agreeing = disagreeing = 0
    for (error, accuracy), (other_error, other_accuracy) in itertools.combinations(runs, 2):
        sign = (error - other_error) * (accuracy - other_accuracy)
        agreeing += sign < 0
        disagreeing += sign > 0
    both = agreeing + disagreeing
    return (agreeing - disagreeing) / both if both else None
