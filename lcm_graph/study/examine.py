"""All that a trained model is asked in a study."""

from __future__ import annotations

from typing import Any

from torch import nn

from lcm_graph.datasets import SetStream
from lcm_graph.study.config import StudyConfig, TaskSpec
from lcm_graph.study.evaluate import SizeTest, measure_alone, measure_size
from lcm_graph.study.subjects import Subject

# Seeds of test sets; a run's seed times the distance and the size are added.
_TEST_SEED, _ALONE_SEED, _APART = 10**9, 2 * 10**9, 10**7
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


def examine(
    config: StudyConfig, task: TaskSpec, subject: Subject, seed: int, model: nn.Module
) -> dict[str, Any]:
    """Test a model (in eval mode) at all sizes. All subjects are asked about the same sets.

    Returns:
        By size (as text): ``accuracy``, ``trivial``, ``test_sets`` and ``seconds_per_element``, see
        :class:`SizeTest`, None where ``reasons`` says why; ``alone``: the fields of
        :class:`AloneTest`, for the sizes that the subject can be asked about.
    """
    found: dict[str, dict[str, Any]] = {key: {} for key in (*SizeTest._fields, "reasons")}
    for size in config.test_sizes:
        test: dict[str, Any] = dict.fromkeys(SizeTest._fields)
        reason = _refusal(task, subject, size)
        if reason is None:
            sets = _stream(task, config.num_test_sets(size), size, _TEST_SEED, seed)
            try:
                test = measure_size(model, sets, subject.batch_elements)._asdict()
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                reason = " ".join(str(error).split()) or type(error).__name__
        for key, value in test.items():
            found[key][str(size)] = value
        if reason is not None:
            found["reasons"][str(size)] = reason
    asked = [size for size in config.alone_sizes if _refusal(task, subject, size) is None]
    if len(asked) < 2:  # there is no company
        asked = []
    streams = [_stream(task, config.alone_sets, size, _ALONE_SEED, seed) for size in asked]
    alone = measure_alone(model, streams)
    return {**found, "alone": {str(size): test._asdict() for size, test in alone.items()}}


def failed(config: StudyConfig, task: TaskSpec, subject: Subject) -> dict[str, Any]:
    """What :func:`examine` would tell of a model that answers nothing right."""
    reasons = {str(size): _refusal(task, subject, size) for size in config.test_sizes}
    return {
        **{key: dict.fromkeys(reasons) for key in SizeTest._fields},
        "accuracy": {size: None if reason else 0.0 for size, reason in reasons.items()},
        "test_sets": {
            size: None if reason else config.num_test_sets(int(size))
            for size, reason in reasons.items()
        },
        "reasons": {size: reason for size, reason in reasons.items() if reason},
        "alone": {},
    }


def _stream(task: TaskSpec, num_sets: int, size: int, purpose: int, seed: int) -> SetStream:
    return SetStream(
        task.function,
        num_sets,
        size,
        bits=task.bits,
        sampling=task.sampling,
        seed=purpose + _APART * seed + size,
    )


def _refusal(task: TaskSpec, subject: Subject, size: int) -> str | None:
    """Why sets of this size are not asked about."""
    if size < task.set_function.min_size:
        return f"sets of {size} have no {task.function}"
    if subject.max_size is not None and size > subject.max_size:
        return f"more than the {subject.max_size} elements that the subject is asked about"
    return None


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(part in str(error) for part in _NO_MEMORY)
