"""Functions of a set of integers: what sets can be labelled with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from lcm_graph.datasets.sets.answers import check_answer
from lcm_graph.datasets.sets.set_sampling import check_sampling, check_whole


@dataclass(frozen=True)
class SetFunction:
    """A function of a nonempty multiset of integers.

    Attributes:
        name: how it is called, and shown.
        label: ``label(values, ptr, bits)`` answers for S sets at once: ``values`` int64 ``[n]``,
            each below 2^bits, and ``ptr`` int64 ``[S + 1]``; set ``s`` is
            ``values[ptr[s]:ptr[s + 1]]`` and has at least ``min_size`` elements. Returns int64
            ``[S]``, or float64 ``[S]`` if the answer is real.
        answer: what a model answers with. ``"bits"``: the bits of an integer below 2^bits;
            ``"class"``: one of ``classes``; ``"real"``: a number.
        classes: for a class answer: how many there are, or that number as a function of the bits.
        min_size: smallest set that has an answer, at least 1.
        bits: bits per element, unless a data set says otherwise.
        sampling: how elements are drawn, unless a data set says otherwise; see
            :func:`lcm_graph.datasets.draw_values`.

    Raises:
        ValueError: an attribute is out of range.
    """

    name: str
    label: Callable[[Tensor, Tensor, int], Tensor] = field(repr=False)
    answer: str
    classes: int | Callable[[int], int] | None = field(default=None, repr=False)
    min_size: int = 1
    bits: int = 8
    sampling: str = "uniform"

    def __post_init__(self) -> None:
        check_answer(self.answer)
        check_sampling(self.sampling, self.bits)
        check_whole("min_size", self.min_size, 1)
        if isinstance(self.classes, int):
            check_whole("classes", self.classes, 1)
        if (self.classes is not None) != (self.answer == "class"):
            raise ValueError(
                f"classes must be given for answer 'class', and for no other (got {self.classes} "
                f"for {self.answer!r})"
            )

    def labels(self, values: Tensor, ptr: Tensor, bits: int) -> Tensor:
        """What ``label`` answers, checked.

        Raises:
            ValueError: it has not one answer for each set, or not of the type or range announced.
        """
        found = self.label(values, ptr, bits)
        sets, is_real = len(ptr) - 1, self.answer == "real"
        dtype = torch.float64 if is_real else torch.int64
        if not isinstance(found, Tensor) or found.shape != (sets,) or found.dtype != dtype:
            what = (
                f"{found.dtype} {list(found.shape)}" if isinstance(found, Tensor) else repr(found)
            )
            raise ValueError(
                f"label of {self.name!r} must give {dtype} [{sets}], one {self.answer} for each "
                f"set (got {what})"
            )
        most = 2**bits if self.classes is None else self.num_outputs(bits)
        if not is_real and sets and not 0 <= int(found.min()) <= int(found.max()) < most:
            raise ValueError(
                f"label of {self.name!r} must give {self.answer} from 0 to {most - 1} (got "
                f"{int(found.min())} to {int(found.max())}); more bits, or another answer, have "
                "room for it"
            )
        return found

    def num_outputs(self, bits: int) -> int:
        """Outputs of a model that answers for elements of ``bits`` bits: bits, classes or 1."""
        if self.classes is None:
            return bits if self.answer == "bits" else 1
        return self.classes if isinstance(self.classes, int) else self.classes(bits)


def kth_minimum(k: int) -> SetFunction:
    """The ``k``-th smallest element, ``k`` from 1; equal elements count separately.

    Raises:
        ValueError: ``k`` is below 1.
    """
    check_whole("k", k, 1)
    return SetFunction(f"kth_minimum({k})", partial(_kth_minimum, k=k), "bits", min_size=k)


def modular_sum(modulus: int) -> SetFunction:
    """The sum of the elements modulo ``modulus``, a class.

    Raises:
        ValueError: ``modulus`` is below 2.
    """
    check_whole("modulus", modulus, 2)
    label = partial(_modular_sum, modulus=modulus)
    return SetFunction(f"modular_sum({modulus})", label, "class", modulus, bits=4)


def set_function(name: str) -> SetFunction:
    """One of :data:`SET_FUNCTIONS` by name.

    ``second_minimum``, ``kth_minimum`` (the 4th), ``maximum`` and ``median`` (the lower of two)
    answer with an element's bits; ``mode`` (the most frequent value, the smallest of several),
    ``majority`` (1 if more than half of the elements are odd), ``count_distinct``, ``largest_gap``
    (between neighbouring values; 0 for a single value), ``parity`` (of the sum) and ``modular_sum``
    (the sum modulo 10) with a class; ``sum`` (in units of 2^bits) and ``variance`` (of the
    population, in units of 4^bits / 12, that of uniform elements) with a real number.

    Raises:
        ValueError: unknown ``name``.
    """
    if not isinstance(name, str) or name not in _BY_NAME:
        raise ValueError(f"function must be one of {', '.join(SET_FUNCTIONS)} (got {name!r})")
    return _BY_NAME[name]


def _kth_minimum(values: Tensor, ptr: Tensor, bits: int, *, k: int) -> Tensor:
    return _ordered(values, ptr, bits)[ptr[:-1] + (k - 1)]


def _maximum(values: Tensor, ptr: Tensor, bits: int) -> Tensor:
    return _ordered(values, ptr, bits)[ptr[1:] - 1]


def _median(values: Tensor, ptr: Tensor, bits: int) -> Tensor:
    return _ordered(values, ptr, bits)[ptr[:-1] + (ptr.diff() - 1) // 2]


def _mode(values: Tensor, ptr: Tensor, bits: int) -> Tensor:
    """The largest of the keys (how often, how small) of each set's values."""
    last = 2**bits - 1
    keys, counts = _keys(values, ptr, bits).unique_consecutive(return_counts=True)
    best = _largest((counts << bits) + (last - (keys & last)), keys >> bits, ptr)
    return last - (best & last)


def _majority(values: Tensor, ptr: Tensor, bits: int) -> Tensor:
    return (2 * _sums(values & 1, ptr) > ptr.diff()).long()


def _count_distinct(values: Tensor, ptr: Tensor, bits: int) -> Tensor:
    keys = _keys(values, ptr, bits).unique_consecutive()
    return torch.bincount(keys >> bits, minlength=len(ptr) - 1)


def _largest_gap(values: Tensor, ptr: Tensor, bits: int) -> Tensor:
    keys = _keys(values, ptr, bits)
    owner = keys >> bits
    gaps = torch.where(owner.diff() == 0, keys.diff(), 0)
    return _largest(gaps, owner[1:], ptr)


def _parity(values: Tensor, ptr: Tensor, bits: int) -> Tensor:
    return _sums(values, ptr) & 1


def _modular_sum(values: Tensor, ptr: Tensor, bits: int, *, modulus: int) -> Tensor:
    return _sums(values, ptr) % modulus


def _sum(values: Tensor, ptr: Tensor, bits: int) -> Tensor:
    return _sums(values, ptr).double() / 2**bits


def _variance(values: Tensor, ptr: Tensor, bits: int) -> Tensor:
    """E[d²] - E[d]² where d is the distance to the mean rounded down, so that nothing cancels."""
    sizes, owner = ptr.diff(), _owner(ptr)
    distance = values - (_sums(values, ptr) // sizes)[owner]
    mean = _sums(distance, ptr).double() / sizes
    squares = mean.new_zeros(len(sizes)).index_add_(0, owner, distance.double().square())
    return (squares / sizes - mean.square()) * (12 / 4**bits)


def _owner(ptr: Tensor) -> Tensor:
    """The set of each element, ``[n]``."""
    sizes = ptr.diff()
    return torch.repeat_interleave(torch.arange(len(sizes), device=ptr.device), sizes)


def _keys(values: Tensor, ptr: Tensor, bits: int) -> Tensor:
    """(set, value) as one int64, ascending: ``set << bits`` plus the value, for bits up to 31."""
    return ((_owner(ptr) << bits) + values).sort().values


def _ordered(values: Tensor, ptr: Tensor, bits: int) -> Tensor:
    """The values of each set in ascending order."""
    return _keys(values, ptr, bits) & (2**bits - 1)


def _sums(values: Tensor, ptr: Tensor) -> Tensor:
    """The sum of each set, exactly: int64."""
    running = torch.cat([values.new_zeros(1), values.cumsum(0)])
    return running[ptr[1:]] - running[ptr[:-1]]


def _largest(values: Tensor, owner: Tensor, ptr: Tensor) -> Tensor:
    """The largest of ``values``, or 0, of each set; ``owner`` names each value's set."""
    return values.new_zeros(len(ptr) - 1).scatter_reduce(0, owner, values, "amax")


def _universe(bits: int) -> int:
    return 2**bits


def _universe_and_all(bits: int) -> int:
    return 2**bits + 1


_BY_NAME = {
    function.name: function
    for function in (
        replace(kth_minimum(2), name="second_minimum"),
        replace(kth_minimum(4), name="kth_minimum"),
        SetFunction("maximum", _maximum, "bits", sampling="range"),
        SetFunction("median", _median, "bits", bits=4, sampling="skewed"),
        SetFunction("mode", _mode, "class", _universe, bits=3, sampling="skewed"),
        SetFunction("majority", _majority, "class", 2, bits=1, sampling="skewed"),
        SetFunction(
            "count_distinct",
            _count_distinct,
            "class",
            _universe_and_all,
            bits=3,  # so that sets of 16 elements show every answer
            sampling="support",
        ),
        SetFunction("largest_gap", _largest_gap, "class", _universe, bits=4, sampling="support"),
        SetFunction("parity", _parity, "class", 2),
        replace(modular_sum(10), name="modular_sum"),
        SetFunction("sum", _sum, "real", sampling="range"),
        SetFunction("variance", _variance, "real", sampling="range"),
    )
}
SET_FUNCTIONS = tuple(_BY_NAME)
