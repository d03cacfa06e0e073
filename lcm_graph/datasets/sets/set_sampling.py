"""How the elements of random sets of integers are drawn."""

from __future__ import annotations

import torch
from torch import Tensor

SAMPLINGS = ("uniform", "range", "support", "skewed")
MAX_SEED = 2**63 - 1  # of torch's generators, as a signed number
MAX_BITS = 31  # (set, value) is sorted as one int64 key
_PER_VALUE = ("support", "skewed")  # these draw a number for each set and value
_MAX_PER_VALUE_BITS = 12
_AT_ONCE = 2**22  # how many of those numbers are in memory


def check_sampling(sampling: str, bits: int) -> None:
    """ValueError if ``sampling`` is unknown, or ``bits`` out of its range."""
    if sampling not in SAMPLINGS:
        raise ValueError(f"sampling must be one of {', '.join(SAMPLINGS)} (got {sampling!r})")
    check_whole("bits", bits, 1, MAX_BITS)
    if sampling in _PER_VALUE and bits > _MAX_PER_VALUE_BITS:
        raise ValueError(
            f"bits must be at most {_MAX_PER_VALUE_BITS} for sampling {sampling!r}, which draws a "
            f"number for each set and value (got {bits}); use fewer bits, or 'uniform' or 'range'"
        )


def check_whole(name: str, value: object, least: int, most: int | None = None) -> None:
    """ValueError unless ``value`` is an integer from ``least`` on, up to ``most`` if given."""
    if type(value) is not int:
        raise ValueError(f"{name} must be an integer (got {value!r})")
    if value < least or (most is not None and value > most):
        span = f"at least {least}" if most is None else f"between {least} and {most}"
        raise ValueError(f"{name} must be {span} (got {value})")


def draw_values(sampling: str, sizes: Tensor, bits: int, generator: torch.Generator) -> Tensor:
    """Draw the elements of S sets, set after set.

    Under ``"uniform"``, what large sets answer is often foreseeable (their maximum is 2^bits - 1);
    the other samplings give each set a distribution of its own.

    Args:
        sampling: ``"uniform"``: elements from U{0, ..., 2^bits - 1}. ``"range"``: each set draws
            two ends from that, and its elements uniformly between them, ends included.
            ``"support"``: each set draws p from U(0, 1) and lets each value in with probability p
            (one at random if that leaves none), and draws its elements uniformly from those.
            ``"skewed"``: each set draws weights, squares of Exp(1), for all values, and its
            elements in proportion to them.
        sizes: int64 ``[S]``, elements of each set.
        bits: bits per element, see :func:`check_sampling`.
        generator: source of all randomness.

    Returns:
        int64 ``[n]``. Memory grows with n alone.

    Raises:
        ValueError: see :func:`check_sampling`.
    """
    check_sampling(sampling, bits)
    universe = 2**bits
    if sampling == "uniform":
        return torch.randint(0, universe, (int(sizes.sum()),), generator=generator)
    if sampling == "range":
        ends = torch.randint(0, universe, (2, len(sizes)), generator=generator)
        low, high = ends.amin(0), ends.amax(0)
        owner = _owner(sizes)
        return low[owner] + _below((high - low + 1)[owner], generator)
    draw = _from_support if sampling == "support" else _from_skewed
    parts = sizes.split(max(1, _AT_ONCE // universe))
    return torch.cat([draw(part, universe, generator) for part in parts])


def _from_support(sizes: Tensor, universe: int, generator: torch.Generator) -> Tensor:
    chance = torch.rand(len(sizes), 1, generator=generator)
    inside = torch.rand(len(sizes), universe, generator=generator) < chance
    fallback = torch.randint(0, universe, (len(sizes),), generator=generator)
    empty = (~inside.any(dim=1)).nonzero().squeeze(1)
    inside[empty, fallback[empty]] = True
    members = inside.nonzero()[:, 1]  # each set's values in order, set after set
    counts = inside.sum(dim=1)
    first = counts.cumsum(0) - counts
    owner = _owner(sizes)
    return members[first[owner] + _below(counts[owner], generator)]


def _from_skewed(sizes: Tensor, universe: int, generator: torch.Generator) -> Tensor:
    """Inverts all sets' distribution functions at once: that of set ``s`` runs from s to s + 1."""
    weights = torch.empty(len(sizes), universe, dtype=torch.float64)
    cumulative = weights.exponential_(generator=generator).square().cumsum(dim=1)
    cumulative /= cumulative[:, -1:].clone()
    cumulative += torch.arange(len(sizes))[:, None]
    owner = _owner(sizes)
    drawn = owner + torch.rand(len(owner), dtype=torch.float64, generator=generator)
    found = torch.searchsorted(cumulative.view(-1), drawn, right=True)
    # Rounding may lift a draw to the end of its set's range.
    return (found - owner * universe).clamp_(max=universe - 1)


def _owner(sizes: Tensor) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(sizes)), sizes)


def _below(limits: Tensor, generator: torch.Generator) -> Tensor:
    """Integers ``[n]``, each from U{0, ..., limit - 1}; limits up to 2^31."""
    fractions = torch.rand(len(limits), dtype=torch.float64, generator=generator)
    return (fractions * limits).long()
