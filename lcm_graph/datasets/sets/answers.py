"""What a set function answers with: bits, a class or a real number; and which answers are right."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_graph.datasets.sets.set_batch import to_bits

ANSWERS = ("bits", "class", "real")
REL_TOLERANCE, ABS_TOLERANCE = 0.05, 0.005
"""A real answer is right within ``REL_TOLERANCE * |y| + ABS_TOLERANCE`` of the label ``y``."""


def encode(labels: Tensor, answer: str, bits: int) -> Tensor:
    """Labels ``[S]`` as a model is trained on them.

    Returns:
        ``"bits"``: float32 ``[S, bits]``, least significant first; ``"class"``: int64 ``[S]``;
        ``"real"``: float32 ``[S, 1]``.

    Raises:
        ValueError: unknown ``answer``.
    """
    check_answer(answer)
    if answer == "bits":
        return to_bits(labels, bits)
    return labels if answer == "class" else labels.to(torch.float32)[:, None]


def is_right(logits: Tensor, y: Tensor, answer: str) -> Tensor:
    """Which answers count as right, bool ``[S]``; one that holds a NaN does not.

    Args:
        logits: ``[S, bits]`` (positive for 1), ``[S, classes]`` or ``[S, 1]`` (the number itself).
        y: what :func:`encode` gives.
        answer: ``"bits"``: every bit must be right; ``"class"``: the largest logit must be the
            label's; ``"real"``: the prediction must be within 0.05 |y| + 0.005 of ``y``.

    Raises:
        ValueError: unknown ``answer``, or shapes that do not fit.
    """
    check_answer(answer)
    expected = logits.shape[:1] if answer == "class" else logits.shape
    if logits.dim() != 2 or y.shape != expected:
        raise ValueError(
            f"logits must be [S, outputs] and y {'[S]' if answer == 'class' else 'of their shape'} "
            f"for answer {answer!r} (got {list(logits.shape)} and {list(y.shape)})"
        )
    known = ~logits.isnan().any(dim=1)
    if answer == "bits":
        return known & ((logits > 0) == y.bool()).all(dim=1)
    if answer == "class":
        return known & (logits.argmax(dim=1) == y)
    return ((logits - y).abs() <= _tolerance(y)).all(dim=1)


def best_constant(labels: Tensor, answer: str) -> float:
    """The largest fraction in [0, 1] of ``labels [S]`` that one constant answer gets right.

    A real constant is right on an interval around each label; where most intervals meet is found
    exactly, among their lower ends.

    Raises:
        ValueError: unknown ``answer``.
    """
    check_answer(answer)
    if answer == "real":
        tolerance = _tolerance(labels)
        lower = (labels - tolerance).sort().values
        upper = (labels + tolerance).sort().values
        begun = torch.arange(1, len(labels) + 1, device=labels.device)
        counts = begun - torch.searchsorted(upper, lower)
    else:
        counts = labels.unique(return_counts=True)[1]
    return int(counts.max()) / len(labels)


def check_answer(answer: str) -> None:
    """ValueError unless ``answer`` is one of :data:`ANSWERS`."""
    if answer not in ANSWERS:
        raise ValueError(f"answer must be one of {', '.join(ANSWERS)} (got {answer!r})")


def _tolerance(y: Tensor) -> Tensor:
    return REL_TOLERANCE * y.abs() + ABS_TOLERANCE
