"""What a study runs, checked before anything is trained."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from lcm_graph.datasets import SET_FUNCTIONS, SetFunction, set_function
from lcm_graph.datasets.sets.integer_sets import with_defaults
from lcm_graph.study.subjects import SUBJECTS
from lcm_graph.training.loop import KEEP, OPTIMIZERS, SCHEDULES

RANK_SIZE = 200
MOST_SEED = 10**9  # seeds of test sets are far above, and still those of torch


@dataclass(frozen=True)
class TaskSpec:
    """A set function on integers; ``bits`` and ``sampling`` are the function's own if None.

    Raises:
        ValueError: no such function or sampling, bits out of range, or a name that is none for a
            file.
    """

    name: str
    function: str
    bits: int | None = None
    sampling: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w@.+-]+", self.name):
            raise ValueError(
                f"a task's name must be of letters, digits and @ . + - _ (got {self.name!r})"
            )
        try:
            if self.bits is not None:
                check_int("bits", self.bits, 1)
            _, bits, sampling = with_defaults(self.set_function, self.bits, self.sampling)
        except ValueError as error:
            raise ValueError(f"task {self.name!r}: {error}") from error
        object.__setattr__(self, "bits", bits)
        object.__setattr__(self, "sampling", sampling)

    @property
    def set_function(self) -> SetFunction:
        return set_function(self.function)


@dataclass(frozen=True)
class StudyConfig:
    """Tasks × subjects × seeds, and how each of these runs is trained and tested.

    Attributes:
        tasks: what is learned.
        subjects: which of :data:`lcm_graph.study.SUBJECTS` learn it.
        seeds: of weights, data and order; the test sets differ from seed to seed too.
        hidden: width of the model.
        train_sets: number of training sets, of up to ``max_train_size`` elements.
        epochs, batch_size, lr, schedule, clip_norm, keep: see :func:`lcm_graph.training.fit`.
        optimizer: ``"adam"`` or ``"amsgrad"``, see :func:`lcm_graph.training.amsgrad`.
        max_train_size: largest training set; validation sets have twice as many elements.
        valid_sets: number of validation sets.
        test_sizes: sizes of test sets, one test each.
        test_sets: number of test sets of each size,
        max_test_elements: but no more than have this many elements together (at least one).
        alone_sizes: sizes at which sets are also tested one by one, and in batches of all these
            sizes; none, or at least two.
        alone_sets: number of those sets, of each size.
        rank_sizes: the test sizes at which subjects are ranked, :data:`RANK_SIZE` if none are
            named, or the largest where that is not tested; the first of them also stands
            beside associativity errors.
        jobs: runs side by side, with one thread each.

    Raises:
        ValueError: a field is out of range; the message names it and says what it may be.
    """

    tasks: tuple[TaskSpec, ...]
    subjects: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    hidden: int = 64
    train_sets: int = 32_768
    epochs: int = 10
    batch_size: int = 128
    lr: float = 8e-3
    optimizer: str = "amsgrad"
    schedule: str = "one_cycle"
    clip_norm: float | None = 1.0
    keep: str = "last"
    max_train_size: int = 16
    valid_sets: int = 1024
    test_sizes: tuple[int, ...] = (16, 32, 200, 1000, 10_000, 100_000)
    test_sets: int = 1024
    max_test_elements: int = 4_000_000
    alone_sizes: tuple[int, ...] = ()
    alone_sets: int = 256
    rank_sizes: tuple[int, ...] = ()
    jobs: int = 1

    def __post_init__(self) -> None:
        check_distinct("tasks", [task.name for task in self.tasks])
        check_distinct("subjects", self.subjects)
        check_distinct("seeds", self.seeds)
        for name in self.subjects:
            check_choice("subjects", name, SUBJECTS)
        for seed in self.seeds:
            check_int("seeds", seed, 0, MOST_SEED)
        for field in fields(self):
            if field.type == "int":  # annotations are strings here
                check_int(field.name, getattr(self, field.name), 1)
        for name in ("test_sizes", "alone_sizes"):
            for size in getattr(self, name):
                check_int(name, size, 1)
        check_distinct("test_sizes", self.test_sizes)
        check_distinct("alone_sizes", self.alone_sizes, least=0)
        if len(self.alone_sizes) == 1:
            raise ValueError(
                "alone_sizes must be none or at least two, since a set in company is one among "
                f"sets of the others (got {self.alone_sizes[0]})"
            )
        _check_positive("lr", self.lr)
        if self.clip_norm is not None:
            _check_positive("clip_norm", self.clip_norm)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("keep", self.keep, KEEP)
        if not self.rank_sizes:
            chosen = RANK_SIZE if RANK_SIZE in self.test_sizes else max(self.test_sizes)
            object.__setattr__(self, "rank_sizes", (chosen,))
        check_distinct("rank_sizes", self.rank_sizes)
        for size in self.rank_sizes:
            check_choice("rank_sizes", size, self.test_sizes)
        for task in self.tasks:
            if self.max_train_size < task.set_function.min_size:
                raise ValueError(
                    f"max_train_size must be at least {task.set_function.min_size} for task "
                    f"{task.name!r} (got {self.max_train_size})"
                )

    def num_test_sets(self, size: int) -> int:
        """How many sets of ``size`` elements are tested."""
        return min(self.test_sets, max(1, self.max_test_elements // size))

    def runs(self) -> list[tuple[TaskSpec, str, int]]:
        """Task, subject and seed of each run: all with the first seed, then all with the next."""
        return [
            (task, subject, seed)
            for seed in self.seeds
            for task in self.tasks
            for subject in self.subjects
        ]

    def narrowed(
        self,
        tasks: Sequence[str] | None = None,
        subjects: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> StudyConfig:
        """The same with other tasks (its own, or set functions), subjects and seeds, if given.

        Raises:
            ValueError: an unknown name, or a seed below 0.
        """
        chosen: dict[str, Any] = {}
        if tasks is not None:
            own = {task.name: task for task in self.tasks}
            known = [*own, *(name for name in SET_FUNCTIONS if name not in own)]
            for name in tasks:
                check_choice("tasks", name, known)
            chosen["tasks"] = tuple(own.get(name) or TaskSpec(name, name) for name in tasks)
        if subjects is not None:
            chosen["subjects"] = tuple(subjects)
        if seeds is not None:
            chosen["seeds"] = tuple(seeds)
        return replace(self, **chosen)


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """ValueError that names the choices, unless ``value`` is one."""
    choices = list(choices)
    if value not in choices:
        raise ValueError(f"{name} must be among {', '.join(map(str, choices))} (got {value!r})")


def check_int(name: str, value: Any, least: int, most: float = math.inf) -> None:
    """ValueError unless ``value`` is an integer, at least ``least`` and at most ``most``."""
    if type(value) is not int or not least <= value <= most:
        limit = "" if most == math.inf else f" and at most {most}"
        raise ValueError(f"{name} must be an integer, at least {least}{limit} (got {value!r})")


def _check_positive(name: str, value: Any) -> None:
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a positive number (got {value!r})")


def check_distinct(name: str, values: Sequence[Any], least: int = 1) -> None:
    """ValueError if something comes twice, or if there are fewer than ``least``."""
    if len(values) < least:
        raise ValueError(f"{name} must name at least {least} (got none)")
    if len({repr(value) for value in values}) < len(values):
        raise ValueError(f"{name} must not name anything twice (got {', '.join(map(str, values))})")
