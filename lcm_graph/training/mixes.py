"""What a training does for the mixes of its model."""

from __future__ import annotations

from torch import nn

from lcm_graph.aggregators import MixAggregation, plan_choices
from lcm_graph.training.protocol import Task


def plan_mixes(model: nn.Module, task: Task, epochs: int) -> str:
    """Give the phases of a model's mixes their share of a training, if it has any.

    Returns:
        Whose weights :func:`fit` is to ``keep``: the last epoch's of a model with a mix, since
        before it has chosen its factors it is evaluated with all; of another, the best.
    """
    plan_choices(model, epochs * task.steps_per_epoch)
    has_mix = any(isinstance(module, MixAggregation) for module in model.modules())
    return "last" if has_mix else "best"
