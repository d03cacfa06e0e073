"""Configurations of studies in JSON, those that ship with the package among them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

from lcm_graph.study.config import StudyConfig, TaskSpec, check_distinct

PRESETS = ("smoke", "quick", "table2", "far", "far16", "full")
"""Configurations that ship with the package."""

_TASK_KEYS = ("function", "bits", "sampling")
_LISTS = ("subjects", "seeds", "test_sizes", "alone_sizes", "rank_sizes")


def read_config(name: str) -> StudyConfig:
    """Read one of :data:`PRESETS`, or a JSON file: an object of :class:`StudyConfig`'s fields.

    ``"tasks"`` is a list of set functions, or an object, name -> ``{"function": …, "bits": …,
    "sampling": …}``, all of which may be left out.

    Raises:
        ValueError: no such file, no JSON, or an unknown key or value in it.
    """
    if name in PRESETS:
        text = (resources.files("lcm_graph.study") / "configs" / f"{name}.json").read_text("utf-8")
    else:
        path = Path(name)
        if not path.is_file():
            raise ValueError(f"config must be one of {', '.join(PRESETS)} or a file (got {name!r})")
    try:
        if name not in PRESETS:
            text = path.read_text("utf-8")
        return parse_config(json.loads(text))
    except ValueError as error:  # JSON's and UnicodeDecodeError among them
        raise ValueError(f"config {name}: {error}") from error


def parse_config(content: Any) -> StudyConfig:
    """A configuration from lists and dictionaries, see :func:`read_config`.

    Raises:
        ValueError: an unknown key, or a value out of range.
    """
    known = [field.name for field in fields(StudyConfig)]
    settings = dict(_object("the configuration", content, known))
    for name in ("tasks", "subjects"):
        if name not in settings:
            raise ValueError(f"{name} must be given")
    settings["tasks"] = _tasks(settings["tasks"])
    for name in _LISTS:
        if name in settings:
            if not isinstance(settings[name], list):
                raise ValueError(f"{name} must be a list (got {settings[name]!r})")
            settings[name] = tuple(settings[name])
    return StudyConfig(**settings)


def _tasks(tasks: Any) -> tuple[TaskSpec, ...]:
    if isinstance(tasks, list) and all(isinstance(name, str) for name in tasks):
        check_distinct("tasks", tasks)
        tasks = {name: {} for name in tasks}
    if not isinstance(tasks, dict):
        raise ValueError(f"tasks must be a list of names, or an object (got {tasks!r})")
    return tuple(
        TaskSpec(name, **{"function": name, **_object(f"task {name!r}", task, _TASK_KEYS)})
        for name, task in tasks.items()
    )


def _object(what: str, value: Any, known: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be an object (got {value!r})")
    for key in value:
        if key not in known:
            raise ValueError(f"{what}: unknown key {key!r}; known are {', '.join(known)}")
    return value
