"""Train and test whatever of a study is not done yet."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from tqdm import tqdm

from lcm_graph.study.config import StudyConfig, TaskSpec
from lcm_graph.study.run_files import finished_runs, run_path, run_settings
from lcm_graph.study.trial import train_and_test
from lcm_graph.training import run_all
from lcm_graph.training.run_files import write_run


def run_study(config: StudyConfig, out: Path) -> None:
    """Do what is missing in ``out/runs``: a run is trained, tested and written before it counts.

    Killed at any time, it goes on from the runs that are there. Each runs on one thread.

    Raises:
        ValueError: a run in ``out`` was made with other settings, or a subject cannot be made.
        OSError: a file cannot be written.
    """
    known = {(run.task, run.subject, run.seed) for run in finished_runs(config, out)}
    missing = [run for run in config.runs() if (run[0].name, *run[1:]) not in known]
    (out / "runs").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out / "runs"):
        pass  # what cannot be written had better be said before hours of training
    calls = [(config, *run, run_path(out, *run)) for run in missing]
    bar = tqdm(
        total=len(config.runs()),
        initial=len(known),
        unit="run",
        leave=False,
        disable=not sys.stderr.isatty(),
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with bar:
            for done in run_all(_run, calls, jobs=config.jobs):
                bar.write(done)
                bar.update()
    finally:
        torch.set_num_threads(threads)


def _run(config: StudyConfig, task: TaskSpec, subject: str, seed: int, path: Path) -> str:
    result = train_and_test(config, task, subject, seed)
    write_run(path, run_settings(config, task, subject, seed), result)
    accuracy = ", ".join(
        f"{size}: {'-' if value is None else f'{value:.3f}'}"
        for size, value in result["accuracy"].items()
    )
    return f"  {task.name}, {subject}, seed {seed}: {accuracy} ({result['train_seconds']:.0f} s)"
