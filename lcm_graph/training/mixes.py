"""What a training does for the mixes of its model."""

from __future__ import annotations

import copy

import torch
from torch import nn

from lcm_graph.aggregators import MixAggregation, plan_choices
from lcm_graph.training.protocol import Task


def plan_mixes(model: nn.Module, task: Task, epochs: int) -> str:
    """Give the phases of a model's mixes their share of a training, if it has any.

    Returns:
        Whose weights :func:`fit` is to ``keep``: the last epoch's of a model with a mix, since
        before it has chosen its factors it is evaluated with all; of another, the best.
    """
    if not _mixes(model):
        return "best"
    plan_choices(model, epochs * task.steps_per_epoch * _calls_in_a_step(model, task))
    return "last"


def _mixes(model: nn.Module) -> list[MixAggregation]:
    return [module for module in model.modules() if isinstance(module, MixAggregation)]


def _calls_in_a_step(model: nn.Module, task: Task) -> int:
    """How often a training step calls a mix, of a model that uses one in several rounds."""
    model = copy.deepcopy(model).train()
    before = [int(mix.factor_choice.calls) for mix in _mixes(model)]
    devices = [parameter.device for parameter in model.parameters() if parameter.is_cuda][:1]
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        task.loss(model, next(iter(task.train_batches(torch.Generator().manual_seed(0)))))
    after = [int(mix.factor_choice.calls) for mix in _mixes(model)]
    return max(1, *(now - then for now, then in zip(after, before, strict=True)))
