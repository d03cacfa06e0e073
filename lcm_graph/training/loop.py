"""The one training loop."""

from __future__ import annotations

import copy
import math
import re
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from tqdm import tqdm

from lcm_graph.aggregators import regularization
from lcm_graph.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from lcm_graph.training.parallel import count_epoch
from lcm_graph.training.protocol import Epoch, FitResult, Task

SCHEDULES = ("constant", "one_cycle")
KEEP = ("best", "last")


def adam(parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """Adam in one fused step: several times faster than the default on small CPU models."""
    return torch.optim.Adam(parameters, lr=lr, fused=True)


def amsgrad(parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """The same with AMSGrad (Reddi et al., 2018): where a loss has fallen to nothing, Adam's steps
    grow to the learning rate again, in directions that are noise; these do not."""
    return torch.optim.Adam(parameters, lr=lr, fused=True, amsgrad=True)


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"adam": adam, "amsgrad": amsgrad}


def fit(
    model: nn.Module,
    task: Task,
    *,
    epochs: int,
    lr: float = 1e-3,
    optimizer: Callable[..., torch.optim.Optimizer] = adam,
    schedule: str = "constant",
    clip_norm: float | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    device: str | torch.device = "cpu",
    after_epoch: Callable[[Epoch], None] | None = None,
    keep: str = "best",
) -> FitResult:
    """Train ``model`` and leave it with the weights of one epoch, in eval mode.

    What is minimised is the task's loss plus :func:`lcm_graph.regularization` of the model; the
    history holds the task's loss alone.

    Dropout and the like draw from the global generator, which is seeded here and restored at the
    end; the batches of epoch ``e`` come from a generator seeded by ``(seed, e)``. The model's
    initial weights are the caller's affair. A resumed run repeats an uninterrupted one exactly
    (on the same machine and number of threads).

    Args:
        model: moved to ``device``.
        task: data, loss and metric, see :class:`Task`.
        epochs: total number of epochs, those of a resumed run included.
        lr: learning rate; the peak of ``"one_cycle"``.
        optimizer: called as ``optimizer(model.parameters(), lr=lr)``.
        schedule: ``"constant"``, or ``"one_cycle"`` (Smith and Topin, 2017) over all steps.
        clip_norm: clip the gradient's L2 norm to this, if given.
        seed: any non-negative integer.
        checkpoint: file written after every epoch, if given.
        resume: continue from ``checkpoint``; from the start if there is no such file yet.
        progress: show a progress bar (on terminals only).
        device: where to train.
        after_epoch: called with each new line of the history, the model in eval mode; for looking,
            not for changing anything.
        keep: whose weights to keep: those of the ``"best"`` validation epoch, or of the ``"last"``
            one, which a schedule that ends at 0 has settled.

    Raises:
        ValueError: an argument is out of range.
        FloatingPointError: the loss or the validation metric is NaN or infinite, or the norm of
            gradients that are to be clipped.
        CheckpointError: the checkpoint cannot be written or read, or belongs to other settings.
    """
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1 (got {epochs})")
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm must be above 0, or None (got {clip_norm})")
    if seed < 0:
        raise ValueError(f"seed must not be negative (got {seed})")
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)} (got {schedule!r})")
    if keep not in KEEP:
        raise ValueError(f"keep must be one of {', '.join(KEEP)} (got {keep!r})")
    if resume and checkpoint is None:
        raise ValueError("resume needs checkpoint: pass the file to resume from")
    if task.steps_per_epoch < 1:
        raise ValueError(f"task must have at least one training batch (got {task!r})")

    device = torch.device(device)
    model.to(device)
    made = optimizer(model.parameters(), lr=lr)
    scheduler: LRScheduler | None = None
    settings = {
        "model": _modules(model),
        "task": without_addresses(task),
        "optimizer": _described(made),
        "lr": lr,
        "schedule": schedule,
        "clip_norm": clip_norm,
        "seed": seed,
        "keep": keep,
    }
    if schedule == "one_cycle":
        settings["epochs"] = epochs  # the schedule depends on them
        scheduler = OneCycleLR(made, lr, total_steps=epochs * task.steps_per_epoch)
    run = _Run(model, task, made, scheduler, settings)

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(_mixed(seed))
        if resume and checkpoint is not None and Path(checkpoint).exists():
            run.restore(load_checkpoint(checkpoint), checkpoint, epochs)
        bar = tqdm(
            total=epochs * task.steps_per_epoch,
            initial=len(run.history) * task.steps_per_epoch,
            disable=not (progress and sys.stderr.isatty()),
            leave=False,
        )
        with bar:
            while len(run.history) < epochs:
                run.epoch(bar)
                if after_epoch is not None:
                    after_epoch(run.history[-1])
                if checkpoint is not None:
                    save_checkpoint(checkpoint, run.state())
    model.load_state_dict(run.best_weights)
    model.eval()
    best = run.history[run.best_epoch - 1]
    return FitResult(run.history, best.epoch, best.valid)


class _Run:
    """The state of a training run: how to step, save and restore it."""

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        optimizer: torch.optim.Optimizer,
        scheduler: LRScheduler | None,
        settings: dict[str, Any],
    ) -> None:
        self.model, self.task = model, task
        self.optimizer, self.scheduler, self.settings = optimizer, scheduler, settings
        self.history: list[Epoch] = []
        self.best_epoch = 0
        self.best_weights: dict[str, Any] = {}
        self.device = next((weight.device for weight in model.parameters()), torch.device("cpu"))
        self.on_cuda = self.device.type == "cuda"

    def epoch(self, bar: tqdm[Any]) -> None:
        number = len(self.history) + 1
        generator = torch.Generator().manual_seed(_mixed(self.settings["seed"], number))
        self.model.train()
        start, losses = self._seconds(), []
        for step, batch in enumerate(self.task.train_batches(generator), 1):
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.task.loss(self.model, batch)
            losses.append(loss.item())
            loss = loss + regularization(self.model)
            if not math.isfinite(loss.item()):
                raise FloatingPointError(
                    f"loss is {loss.item()} at epoch {number}, batch {step}; lower lr or set "
                    f"clip_norm"
                )
            loss.backward()
            if self.settings["clip_norm"] is not None:
                norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings["clip_norm"])
                if not math.isfinite(norm):
                    raise FloatingPointError(
                        f"the gradient's norm is {norm.item()} at epoch {number}, batch {step}; "
                        "lower lr"
                    )
            self.optimizer.step()
            if self.scheduler is not None:
                self.scheduler.step()
            bar.update()
        seconds = self._seconds() - start

        self.model.eval()
        valid = self.task.evaluate(self.model, "valid")
        if not math.isfinite(valid):
            raise FloatingPointError(f"validation metric is {valid} after epoch {number}; lower lr")
        self.history.append(Epoch(number, sum(losses) / len(losses), valid, seconds))
        if self._is_best(valid):
            self.best_epoch = number
            self.best_weights = copy.deepcopy(self.model.state_dict())
        count_epoch()
        bar.set_postfix(epoch=number, loss=f"{self.history[-1].loss:.4f}", valid=f"{valid:.4f}")

    def _seconds(self) -> float:
        """The time, when the device has done what it was given."""
        if self.on_cuda:
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _is_best(self, valid: float) -> bool:
        if not self.best_epoch or self.settings["keep"] == "last":
            return True
        best = self.history[self.best_epoch - 1].valid
        return valid >= best if self.task.maximize else valid <= best

    def state(self) -> dict[str, Any]:
        return {
            "settings": self.settings,
            "history": [asdict(epoch) for epoch in self.history],
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if self.on_cuda else None,
        }

    def restore(self, state: dict[str, Any], path: str | Path, epochs: int) -> None:
        self._check_same(state, path, epochs)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self.best_epoch, self.best_weights = state["best_epoch"], state["best_weights"]
        torch.set_rng_state(state["rng"])
        if self.on_cuda and state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"], self.device)

    def _check_same(self, state: dict[str, Any], path: str | Path, epochs: int) -> None:
        remedy = "use the same settings, another checkpoint file, or start without resume"
        mine, theirs = _shapes(self.model.state_dict()), _shapes(state["model"])
        for name in sorted(mine.keys() | theirs.keys()):
            if mine.get(name) != theirs.get(name):
                raise CheckpointError(
                    f"cannot resume from {path}: {name} has shape {theirs.get(name, 'none')} "
                    f"there and {mine.get(name, 'none')} in this model; {remedy}"
                )
        there = _flat(state["settings"])
        here = _flat(self.settings)
        for key in [*here, *there]:
            if here.get(key) != there.get(key):
                raise CheckpointError(
                    f"cannot resume from {path}: {key} was {there.get(key)} there and is "
                    f"{here.get(key)} now; {remedy}"
                )
        if len(state["history"]) > epochs:
            raise CheckpointError(
                f"cannot resume from {path}: it holds {len(state['history'])} epochs, more than "
                f"epochs={epochs}; ask for at least as many, or start without resume"
            )


def _described(optimizer: torch.optim.Optimizer) -> str:
    settings = sorted((name, value) for name, value in optimizer.defaults.items() if name != "lr")
    return f"{type(optimizer).__name__} {dict(settings)}"


def _modules(model: nn.Module) -> dict[str, str]:
    """Every module by itself: PyG's layers do not show what they aggregate by."""
    return {name: without_addresses(module) for name, module in model.named_modules()}


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """With a key for each module of the model, innermost first: they say best what differs."""
    modules = settings["model"] if isinstance(settings["model"], dict) else {}
    by_name = {f"model {name}".rstrip(): modules[name] for name in reversed(modules)}
    return {**{key: value for key, value in settings.items() if key != "model"}, **by_name}


def _shapes(weights: dict[str, torch.Tensor]) -> dict[str, list[int]]:
    return {name: list(weight.shape) for name, weight in weights.items()}


def without_addresses(thing: object) -> str:
    """``repr(thing)`` without what differs from process to process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(thing))


def _mixed(*numbers: int) -> int:
    """One 32-bit seed from several numbers (torch's CPU generator uses 32 bits only)."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
