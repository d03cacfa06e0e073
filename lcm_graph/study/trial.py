"""One run of a study: a subject learns a task and is tested."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from lcm_graph.aggregators import plan_choices
from lcm_graph.datasets import IntegerSets
from lcm_graph.study.associativity import tree_associativity_error
from lcm_graph.study.config import StudyConfig, TaskSpec
from lcm_graph.study.examine import examine, failed
from lcm_graph.study.subjects import SUBJECTS, Subject
from lcm_graph.training import Epoch, SetModel, SetTask, count_parameters, fit
from lcm_graph.training.loop import OPTIMIZERS

_VALID_SEED = 1_000_000  # of validation sets, apart from training's; the run's seed is added
_WATCHED_SETS = 256  # validation sets on which associativity is measured


def train_and_test(config: StudyConfig, task: TaskSpec, subject: str, seed: int) -> dict[str, Any]:
    """Train one subject on one task, test it, and return what JSON can hold.

    Returns:
        ``parameters``, ``sets_seen``, ``train_seconds``, ``train_loss`` (the task's, of the last
        epoch), ``best_epoch`` (whose weights are tested), ``valid``; ``history``, a list of epochs;
        ``diverged``, why training broke off, or None; ``associativity_error`` of the tested weights
        and ``associativity_by_epoch``, see :func:`tree_associativity_error`; and what
        :func:`examine` tells. A run whose training diverged has answered nothing right.
    """
    chosen = SUBJECTS[subject]
    train, valid = _sets(config, task, seed)
    model = _model(chosen, train, config.hidden, seed)
    set_task = SetTask(train, valid, batch_size=config.batch_size)
    plan_choices(model, config.epochs * set_task.steps_per_epoch)
    watched = next(valid.batches(_WATCHED_SETS))
    history: list[dict[str, Any]] = []
    errors: list[float | None] = []

    def after_epoch(epoch: Epoch) -> None:
        history.append(asdict(epoch))
        errors.append(tree_associativity_error(model, watched))

    best_epoch: int | None = None
    best_valid: float | None = None
    diverged: str | None = None
    try:
        fitted = fit(
            model,
            set_task,
            epochs=config.epochs,
            lr=config.lr,
            optimizer=OPTIMIZERS[config.optimizer],
            schedule=config.schedule,
            clip_norm=config.clip_norm,
            keep=config.keep,
            seed=seed,
            progress=False,
            after_epoch=after_epoch,
        )
        best_epoch, best_valid = fitted.best_epoch, fitted.best_valid
    except FloatingPointError as error:
        diverged = str(error)
    return {
        "parameters": count_parameters(model),
        "sets_seen": len(history) * config.train_sets,
        "train_seconds": sum(epoch["seconds"] for epoch in history),
        "train_loss": history[-1]["loss"] if history else None,
        "best_epoch": best_epoch,
        "valid": best_valid,
        "history": history,
        "diverged": diverged,
        "associativity_error": errors[best_epoch - 1] if best_epoch else None,
        "associativity_by_epoch": errors if any(error is not None for error in errors) else None,
        **(
            failed(config, task, chosen) if diverged else examine(config, task, chosen, seed, model)
        ),
    }


def _sets(config: StudyConfig, task: TaskSpec, seed: int) -> tuple[IntegerSets, IntegerSets]:
    """Training sets, and validation sets of twice the largest size."""

    def sets(count: int, least: int | None, most: int, seed: int) -> IntegerSets:
        return IntegerSets(
            task.function, count, least, most, bits=task.bits, sampling=task.sampling, seed=seed
        )

    largest = config.max_train_size
    return (
        sets(config.train_sets, None, largest, seed),
        sets(config.valid_sets, 2 * largest, 2 * largest, _VALID_SEED + seed),
    )


def _model(subject: Subject, train: IntegerSets, hidden: int, seed: int) -> SetModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SetModel(
            subject.make(train.bits, hidden),
            train.bits,
            hidden,
            train.function.num_outputs(train.bits),
            encode=subject.encode,
        )
