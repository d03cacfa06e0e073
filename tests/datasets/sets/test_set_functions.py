"""Every set function against a plain loop over its definition."""

import dataclasses
import pickle
import statistics
from typing import Any

import numpy as np
import pytest
import torch

from lcm_graph.datasets import (
    SET_FUNCTIONS,
    IntegerSets,
    SetFunction,
    SetStream,
    draw_values,
    kth_minimum,
    modular_sum,
    set_function,
)

REFERENCES = {
    "second_minimum": lambda s, bits: sorted(s)[1],
    "kth_minimum": lambda s, bits: sorted(s)[3],
    "maximum": lambda s, bits: max(s),
    "median": lambda s, bits: sorted(s)[(len(s) - 1) // 2],
    "mode": lambda s, bits: min(v for v in s if s.count(v) == max(map(s.count, s))),
    "majority": lambda s, bits: int(sum(v % 2 for v in s) > len(s) / 2),
    "count_distinct": lambda s, bits: len(set(s)),
    "largest_gap": lambda s, bits: max(b - a for a, b in neighbours(sorted({*s}))),
    "parity": lambda s, bits: sum(s) % 2,
    "modular_sum": lambda s, bits: sum(s) % 10,
    "sum": lambda s, bits: sum(s) / 2**bits,
    "variance": lambda s, bits: 12 * statistics.pvariance(s) / 4**bits,
}


def neighbours(values):
    return zip(values, values[1:] or values, strict=False)


def check(function, reference, sizes, bits, sampling="uniform"):
    sizes = torch.tensor(sizes)
    ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    values = draw_values(sampling, sizes, bits, torch.Generator().manual_seed(1))
    labels = function.label(values, ptr, bits)
    expected = [reference(part.tolist(), bits) for part in values.split(sizes.tolist())]
    assert labels.shape == sizes.shape
    if function.answer == "real":
        assert labels.dtype == torch.float64
        assert labels.tolist() == pytest.approx(expected, rel=1e-12, abs=1e-15)
    else:
        assert labels.dtype == torch.int64
        assert labels.tolist() == expected
        limit = 2**bits if function.answer == "bits" else function.num_outputs(bits)
        assert 0 <= labels.min() and labels.max() < limit


def test_all_are_tested():
    assert tuple(REFERENCES) == SET_FUNCTIONS
    assert [set_function(name).name for name in SET_FUNCTIONS] == [*SET_FUNCTIONS]


@pytest.mark.parametrize("size", [1, 2, 3, 16, 17, "ragged"])
@pytest.mark.parametrize("name", SET_FUNCTIONS)
def test_label(name, size):
    function = set_function(name)
    if size == "ragged":
        sizes = [function.min_size + extra for extra in (0, 16, 2, 0, 1, 39, 5, 3, 15)] * 5
    else:
        sizes = [max(size, function.min_size)] * 40
    for bits in {function.bits, 1, 2, 5}:
        check(function, REFERENCES[name], sizes, bits)
    check(function, REFERENCES[name], sizes, function.bits, function.sampling)


@pytest.mark.parametrize("name", SET_FUNCTIONS)
def test_keys_of_many_bits_and_sets_do_not_overflow(name):
    check(set_function(name), REFERENCES[name], [5, 4, 17] * 400, 31)


@pytest.mark.parametrize("name", SET_FUNCTIONS)
def test_a_million_elements_of_16_bits(name):
    n, bits = 10**6, 16
    values = torch.randint(0, 2**bits, (n,)).square() >> bits  # small ones are more frequent
    values[0] = 2**bits - 1
    sets = torch.cat([values, torch.full((n,), 2**bits - 1)])
    s = np.sort(values.numpy())
    expected = {
        "second_minimum": s[1],
        "kth_minimum": s[3],
        "maximum": s[-1],
        "median": s[(n - 1) // 2],
        "mode": np.bincount(s).argmax(),
        "majority": 2 * (s % 2).sum() > n,
        "count_distinct": len(np.unique(s)),
        "largest_gap": np.diff(s).max(),
        "parity": s.sum() % 2,
        "modular_sum": s.sum() % 10,
        "sum": s.sum() / 2**bits,
        "variance": 12 * s.astype(np.longdouble).var() / 4**bits,
    }[name]
    first, second = set_function(name).label(sets, torch.tensor([0, n, 2 * n]), bits).tolist()
    assert first == pytest.approx(float(expected), rel=1e-12)
    total = n * (2**bits - 1)
    assert second == {
        "majority": 1,
        "count_distinct": 1,
        "largest_gap": 0,
        "parity": total % 2,
        "modular_sum": total % 10,
        "sum": total / 2**bits,
        "variance": 0,
    }.get(name, 2**bits - 1)


def test_variance_far_from_zero_and_close_to_it():
    label = set_function("variance").label
    ends = torch.tensor([0, 2**31 - 1]).repeat(500)
    close = torch.tensor([2**31 - 2, 2**31 - 1]).repeat(500)
    first, second = label(torch.cat([ends, close]), torch.tensor([0, 1000, 2000]), 31).tolist()
    assert first == pytest.approx(12 * ((2**31 - 1) / 2**32) ** 2, rel=1e-12)
    assert second == 3 / 4**31


def test_ties():
    def label(name, *values):
        return set_function(name).label(torch.tensor(values), torch.tensor([0, len(values)]), 3)

    assert label("second_minimum", 3, 5, 3).item() == 3
    assert label("mode", 7, 2, 7, 2, 5).item() == 2
    assert label("median", 4, 1, 3, 2).item() == 2
    assert label("majority", 1, 2).item() == 0 and label("majority", 1, 2, 5).item() == 1
    assert label("largest_gap", 4, 4).item() == 0 and label("largest_gap", 1, 4, 4).item() == 3


@pytest.mark.parametrize("k", [1, 3, 7])
def test_kth_minimum(k):
    function = kth_minimum(k)
    assert (function.name, function.min_size) == (f"kth_minimum({k})", k)
    assert (function.answer, function.num_outputs(6)) == ("bits", 6)
    check(function, lambda s, bits: sorted(s)[k - 1], [k, k + 1, 20], 3)


@pytest.mark.parametrize("modulus", [2, 7])
def test_modular_sum(modulus):
    function = modular_sum(modulus)
    assert (function.name, function.num_outputs(6)) == (f"modular_sum({modulus})", modulus)
    check(function, lambda s, bits: sum(s) % modulus, [1, 2, 20], 8)


@pytest.mark.parametrize(
    ("name", "answer", "outputs", "defaults"),
    [
        ("second_minimum", "bits", 6, (2, 8, "uniform")),
        ("kth_minimum", "bits", 6, (4, 8, "uniform")),
        ("maximum", "bits", 6, (1, 8, "range")),
        ("median", "bits", 6, (1, 4, "skewed")),
        ("mode", "class", 64, (1, 3, "skewed")),
        ("majority", "class", 2, (1, 1, "skewed")),
        ("count_distinct", "class", 65, (1, 3, "support")),
        ("largest_gap", "class", 64, (1, 4, "support")),
        ("parity", "class", 2, (1, 8, "uniform")),
        ("modular_sum", "class", 10, (1, 4, "uniform")),
        ("sum", "real", 1, (1, 8, "range")),
        ("variance", "real", 1, (1, 8, "range")),
    ],
)
def test_answers_and_defaults(name, answer, outputs, defaults):
    function = set_function(name)
    assert (function.answer, function.num_outputs(6)) == (answer, outputs)
    assert (function.min_size, function.bits, function.sampling) == defaults


@pytest.mark.parametrize("name", SET_FUNCTIONS)
def test_pickles_and_shows_no_address(name):
    function = set_function(name)
    copy = pickle.loads(pickle.dumps(function))
    values, ptr = torch.arange(8), torch.tensor([0, 8])
    assert torch.equal(copy.label(values, ptr, 3), function.label(values, ptr, 3))
    assert copy.num_outputs(3) == function.num_outputs(3)
    assert name in repr(function) and "0x" not in repr(function)
    with pytest.raises(dataclasses.FrozenInstanceError):
        copy.name = "other"


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"function must be one of second_minimum, .*'minimum'"):
        set_function("minimum")
    with pytest.raises(ValueError, match=r"k must be at least 1 \(got 0\)"):
        kth_minimum(0)
    with pytest.raises(ValueError, match=r"modulus must be at least 2 \(got 1\)"):
        modular_sum(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "word"}, r"answer must be one of bits, class, real \(got 'word'\)"),
        ({"sampling": "gauss"}, r"sampling must be one of uniform, .* \(got 'gauss'\)"),
        ({"bits": 32}, r"bits must be between 1 and 31 \(got 32\)"),
        ({"bits": 13, "sampling": "skewed"}, r"bits must be at most 12 .*'skewed'"),
        ({"min_size": 0}, r"min_size must be at least 1 \(got 0\)"),
        ({"classes": 3}, r"classes must be given for answer 'class'.*got 3 for 'bits'"),
        ({"answer": "class"}, r"classes must be given .*got None for 'class'"),
    ],
)
def test_bad_set_functions(change, message):
    arguments: dict[str, Any] = {"name": "mine", "label": len, "answer": "bits"}
    assert SetFunction(**arguments).num_outputs(5) == 5
    with pytest.raises(ValueError, match=message):
        SetFunction(**arguments | change)


@pytest.mark.parametrize(
    ("label", "answer", "classes", "message"),
    [
        (lambda v, p, b: v, "bits", None, r"int64 \[3\], one bits for each set \(got .*\[6\]\)"),
        (lambda v, p, b: p[1:].double(), "bits", None, r"\(got torch.float64 \[3\]\)"),
        (lambda v, p, b: p[1:], "real", None, r"must give torch.float64 .*\(got torch.int64"),
        (lambda v, p, b: 3, "class", 4, r"one class for each set \(got 3\)"),
        (lambda v, p, b: p[1:], "class", 4, r"must give class from 0 to 3 \(got 2 to 6\)"),
        (lambda v, p, b: p[1:] - 3, "bits", None, r"must give bits from 0 to 7 \(got -1 to 3\)"),
        (lambda v, p, b: 4 * p[1:], "bits", None, r"bits from 0 to 7 \(got 8 to 24\); more bits"),
    ],
)
def test_what_a_function_of_one_s_own_answers_is_checked(label, answer, classes, message):
    function = SetFunction("mine", label, answer, classes, bits=3)
    with pytest.raises(ValueError, match=message):
        IntegerSets(function, 3, 2, 2)
    with pytest.raises(ValueError, match=message):
        SetStream(function, 3, 2).trivial_accuracy()


# Called with what they do not take.
integer_sets: Any = IntegerSets
kth: Any = kth_minimum
modular: Any = modular_sum
by_name: Any = set_function


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kth(1.5), r"k must be an integer \(got 1.5\)"),
        (lambda: modular(2.5), r"modulus must be an integer \(got 2.5\)"),
        (lambda: by_name([1]), r"function must be one of .*\(got \[1\]\)"),
        (
            lambda: integer_sets(len, 3),
            r"function must be one of .*\(got <built-in function len>\)",
        ),
        (lambda: integer_sets("sum", 1.5), r"num_sets must be an integer \(got 1.5\)"),
        (lambda: integer_sets("sum", "5"), r"num_sets must be an integer \(got '5'\)"),
        (lambda: integer_sets("sum", 5, 2.0), r"min_size must be an integer \(got 2.0\)"),
        (lambda: integer_sets("sum", 5, 2, 3.0), r"max_size must be an integer \(got 3.0\)"),
        (lambda: integer_sets("sum", 5, bits=8.0), r"bits must be an integer \(got 8.0\)"),
        (lambda: integer_sets("sum", 5, seed=-1), r"seed must be between 0 and \d+ \(got -1\)"),
    ],
)
def test_other_types(make, message):
    with pytest.raises(ValueError, match=message):
        make()
