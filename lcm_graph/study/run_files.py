"""The file of each run of a study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch

from lcm_graph.study.config import StudyConfig, TaskSpec
from lcm_graph.study.subjects import SUBJECTS
from lcm_graph.training.loop import without_addresses
from lcm_graph.training.run_files import read_run

_IRRELEVANT = ("tasks", "subjects", "seeds", "rank_sizes", "jobs")  # to what one run finds


class Run(NamedTuple):
    """A finished run; see :func:`lcm_graph.study.trial.train_and_test` for the result."""

    task: str
    subject: str
    seed: int
    result: dict[str, Any]
    environment: dict[str, Any]


def run_path(out: Path, task: TaskSpec, subject: str, seed: int) -> Path:
    """The file of a run in a study's folder."""
    return out / "runs" / f"{task.name}--{subject}--{seed}.json"


def run_settings(config: StudyConfig, task: TaskSpec, subject: str, seed: int) -> dict[str, Any]:
    """All that a run's result follows from, as JSON gives it back."""
    made = SUBJECTS[subject]
    with torch.random.fork_rng(devices=[]):
        aggregation = made.make(int(task.bits or 0), config.hidden)
    settings = {
        "task": task.name,
        "function": task.function,
        "bits": task.bits,
        "sampling": task.sampling,
        "subject": subject,
        "aggregation": without_addresses(aggregation),
        "encode": made.encode,
        "max_size": made.max_size,
        "seed": seed,
        **{key: value for key, value in vars(config).items() if key not in _IRRELEVANT},
    }
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain


def finished_runs(config: StudyConfig, out: Path) -> list[Run]:
    """The runs of ``config`` whose files are in ``out``, in the configuration's order.

    Raises:
        ValueError: one was made with other settings.
    """
    found = []
    for run in config.runs():
        kept = read_run(run_path(out, *run), run_settings(config, *run))
        if kept is not None:
            task, subject, seed = run
            found.append(Run(task.name, subject, seed, kept.result, kept.environment))
    return found
