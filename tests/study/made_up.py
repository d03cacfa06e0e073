"""Runs written by hand, and a study small enough for a test."""

from typing import Any

from lcm_graph.study import StudyConfig, TaskSpec
from lcm_graph.study.run_files import Run


def made_up_run(task, subject, seed, accuracy, **result):
    """A finished run with the accuracy of each size, and a little of everything else."""
    sizes = [str(size) for size in accuracy]
    result = {
        "parameters": 10,
        "train_seconds": 2.0,
        "train_loss": 0.5,
        "diverged": None,
        "accuracy": dict(zip(sizes, accuracy.values(), strict=True)),
        "trivial": dict.fromkeys(sizes, 0.125),
        "test_sets": dict.fromkeys(sizes, 64),
        "seconds_per_element": dict.fromkeys(sizes, 1e-6),
        "reasons": {},
        "alone": {},
        "associativity_error": None,
        "associativity_by_epoch": None,
    } | result
    return Run(task, subject, seed, result, {"versions": {"torch": "9"}, "hardware": {}})


def tiny_config(**changes):
    """Two tasks, two subjects, one seed; a run takes a fraction of a second."""
    settings: dict[str, Any] = {
        "tasks": (TaskSpec("second_minimum@3", "second_minimum", 3), TaskSpec("parity", "parity")),
        "subjects": ("sum", "lcm"),
        "hidden": 8,
        "train_sets": 64,
        "epochs": 2,
        "batch_size": 32,
        "valid_sets": 16,
        "test_sizes": (16, 40),
        "test_sets": 8,
        "alone_sizes": (2, 9),
        "alone_sets": 10,
        "rank_sizes": (40,),
    }
    return StudyConfig(**(settings | changes))
