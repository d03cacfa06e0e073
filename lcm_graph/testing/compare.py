"""Comparing tensors so that a failure says what was expected and what came."""

from __future__ import annotations

import torch
from torch import Tensor

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 1e-1}
"""Largest relative error that counts as rounding, by dtype."""


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Largest deviation relative to the largest expected magnitude (absolute if that is 0).

    Infinities and NaNs must be where they are expected, otherwise the error is infinite.
    """
    if actual.shape != expected.shape:
        raise AssertionError(f"expected shape {tuple(expected.shape)}, got {tuple(actual.shape)}")
    if expected.numel() == 0:
        return 0.0
    a, e = actual.detach().double(), expected.detach().double()
    finite = e.isfinite()
    if not torch.equal(finite, a.isfinite()):
        return torch.inf
    if not torch.equal(a[~finite].nan_to_num(0.5), e[~finite].nan_to_num(0.5)):
        return torch.inf
    if not finite.any():
        return 0.0
    scale = float(e[finite].abs().max()) or 1.0
    return float((a[finite] - e[finite]).abs().max()) / scale


def expect_close(
    actual: Tensor, expected: Tensor, what: str, tolerance: float | None = None
) -> float:
    """Assert agreement up to rounding; returns the relative error."""
    limit = TOLERANCE.get(expected.dtype, 0.0) if tolerance is None else tolerance
    error = relative_error(actual, expected)
    if error > limit:
        raise AssertionError(
            f"{what}: expected a relative error of at most {limit:.0e}, got {error:.2e}"
            f"{_worst(actual, expected)}"
        )
    return error


def expect_equal(actual: Tensor, expected: Tensor, what: str) -> None:
    """Assert that two tensors are the same to the last bit (all NaNs alike, 0 and -0 alike)."""
    if relative_error(actual, expected) != 0.0:
        raise AssertionError(f"{what}: expected exact equality{_worst(actual, expected)}")


def expect(condition: bool, what: str) -> None:
    """Assert, also where Python runs with ``-O``."""
    if not condition:
        raise AssertionError(what)


def _worst(actual: Tensor, expected: Tensor) -> str:
    """Where two tensors of one shape differ most."""
    a, e = actual.detach().double().flatten(), expected.detach().double().flatten()
    off = torch.where((a == e) | (a.isnan() & e.isnan()), 0, (a - e).abs().nan_to_num(torch.inf))
    at = int(off.argmax())
    place = tuple(int(i) for i in torch.unravel_index(torch.tensor(at), expected.shape))
    return f"; at {place} expected {e[at].item():.9g}, got {a[at].item():.9g}"
