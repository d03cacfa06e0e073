"""A file for each run: its settings, what it ran on, and its result."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from lcm_graph.files import write_atomically
from lcm_graph.training.parallel import run_all
from lcm_graph.training.report import environment

_FORMAT = "lcm_graph.run/1"


class KeptRun(NamedTuple):
    """What a run's file holds."""

    settings: dict[str, Any]
    result: dict[str, Any]
    environment: dict[str, Any]


def write_run(path: Path, settings: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Write a run's file, all or nothing.

    Raises:
        OSError: the file cannot be written.
        ValueError: the result holds what JSON has no word for, such as NaN.
    """
    content = {
        "format": _FORMAT,
        "settings": dict(settings),
        "environment": environment(),
        "result": dict(result),
    }
    write_atomically(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def read_run(path: Path, settings: Mapping[str, Any]) -> KeptRun | None:
    """The run in ``path``; None if there is no such file, or none that a run has written whole.

    Args:
        path: the file.
        settings: all that the result follows from, as JSON gives it back.

    Raises:
        ValueError: it was made with other settings; the message names the first that differs.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        return None
    if not all(isinstance(content.get(key), dict) for key in KeptRun._fields):
        return None
    there = content["settings"]
    for key in [*settings, *there]:
        if settings.get(key) != there.get(key):
            raise ValueError(
                f"{path} was made with other settings: {key} was {there.get(key)!r} there and is "
                f"{settings.get(key)!r} now; use the same settings, another folder (--out), or "
                "delete the file"
            )
    return KeptRun(there, content["result"], content["environment"])


def run_missing(
    function: Callable[..., Mapping[str, Any]],
    runs: Mapping[str, Mapping[str, Any]],
    folder: Path,
    *,
    jobs: int = 1,
    describe: Callable[[str, Mapping[str, Any]], str] | None = None,
) -> dict[str, KeptRun]:
    """Do the runs that are not in ``folder`` yet, ``jobs`` at a time, and keep each in a file.

    Killed at any time, it goes on from the runs that are there.

    Args:
        function: called with a run's settings as keywords; gives what JSON can hold. With more than
            one job it must pickle.
        runs: name -> settings that JSON can hold. The name is the file's.
        folder: where the files are.
        jobs: how many to do at once, see :func:`lcm_graph.training.run_all`.
        describe: a line to print for a name and its result, if any.

    Returns:
        name -> what its file holds, in the order of ``runs``.

    Raises:
        ValueError: a run in ``folder`` was made with other settings.
        OSError: a file cannot be written.
        Exception: whatever ``function`` raises.
    """
    plain = {name: json.loads(json.dumps(dict(settings))) for name, settings in runs.items()}
    paths = {name: folder / f"{name}.json" for name in plain}
    kept = {name: read_run(paths[name], settings) for name, settings in plain.items()}
    done = {name: run for name, run in kept.items() if run is not None}
    missing = [name for name in plain if name not in done]
    bar = tqdm(
        total=len(plain),
        initial=len(done),
        unit="run",
        leave=False,
        disable=not sys.stderr.isatty(),
    )
    calls = [(function, plain[name], paths[name]) for name in missing]
    with bar:
        for name, run in zip(missing, run_all(_do, calls, jobs=jobs), strict=True):
            done[name] = run
            if describe is not None:
                bar.write(describe(name, run.result))
            bar.update()
    return {name: done[name] for name in plain}


def _do(
    function: Callable[..., Mapping[str, Any]], settings: dict[str, Any], path: Path
) -> KeptRun:
    write_run(path, settings, function(**settings))
    run = read_run(path, settings)
    assert run is not None
    return run
