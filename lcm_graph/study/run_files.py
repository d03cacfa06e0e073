"""The file of each run: its settings, what it ran on, and its result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from lcm_graph.study.config import StudyConfig, TaskSpec
from lcm_graph.study.subjects import SUBJECTS
from lcm_graph.training import environment, write_atomically
from lcm_graph.training.loop import without_addresses

_FORMAT = "lcm_graph.study/1"
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


def write_run(path: Path, settings: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Write a run's file, all or nothing.

    Raises:
        OSError: the file cannot be written.
    """
    content = {
        "format": _FORMAT,
        "settings": dict(settings),
        "environment": environment(),
        "result": dict(result),
    }
    write_atomically(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def read_run(path: Path, settings: Mapping[str, Any]) -> Run | None:
    """The run in ``path``; None if there is no such file, or none that a run has written whole.

    Raises:
        ValueError: it was made with other settings; the message names the first that differs.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        return None
    there = content["settings"]
    for key in [*settings, *there]:
        if settings.get(key) != there.get(key):
            raise ValueError(
                f"{path} was made with other settings: {key} was {there.get(key)!r} there and is "
                f"{settings.get(key)!r} now; use the same settings, another folder (--out), or "
                "delete the file"
            )
    return Run(
        there["task"], there["subject"], there["seed"], content["result"], content["environment"]
    )


def finished_runs(config: StudyConfig, out: Path) -> list[Run]:
    """The runs of ``config`` whose files are in ``out``, in the configuration's order.

    Raises:
        ValueError: one was made with other settings.
    """
    found = (read_run(run_path(out, *run), run_settings(config, *run)) for run in config.runs())
    return [run for run in found if run is not None]
