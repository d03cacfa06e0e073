"""What a closed form is to a kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

Tensors = tuple[Tensor, ...]
Grads = tuple[Tensor | None, ...]


@dataclass(frozen=True)
class Sets:
    """The sets of a batch, as plans name them."""

    ptr: Tensor  # int64 [S + 1]
    rows: Tensor | None  # int64 [n], the row of the state at each place; None if it is the place
    index: Tensor | None  # int64 [n], the set of each row; None if rows repeat
    num_sets: int
    num_elements: int
    derived: dict[str, Any] = field(default_factory=dict)  # what was worked out for these sets


class Formula(NamedTuple):
    """A closed form of inputs ``[rows, channels]``, and its gradient."""

    forward: Callable[[Any, Tensors], tuple[Tensors, Tensors]]
    """Of a batch and inputs: outputs ``[S, channels]``, and what the gradient needs beside them."""

    backward: Callable[[Any, Tensors, Tensors, Grads], Tensors]
    """Of inputs, what was kept, and gradients of the outputs: gradients of the inputs."""

    linear: bool = False  # the gradient does not depend on the inputs
    constant: int = 0  # how many of the outputs, from the first, have no gradient


def sets_of_places(sets: Sets) -> Tensor:
    """The set of each place: int64 ``[n]``."""
    every = torch.arange(sets.num_sets, device=sets.ptr.device)
    return every.repeat_interleave(sets.ptr.diff(), output_size=sets.num_elements)
