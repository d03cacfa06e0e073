"""The samplings against the distributions that they state."""

import pytest
import torch

import lcm_graph.datasets.sets.set_sampling as set_sampling
from lcm_graph.datasets import SAMPLINGS, draw_values


def draw(sampling, sets, size, bits, seed=0):
    """Values ``[sets, size]``."""
    sizes = torch.full((sets,), size)
    return draw_values(sampling, sizes, bits, torch.Generator().manual_seed(seed)).view(sets, size)


@pytest.fixture(params=[None, 50], ids=["at once", "in parts"])
def parts(request, monkeypatch):
    if request.param is not None:
        monkeypatch.setattr(set_sampling, "_AT_ONCE", request.param)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_ragged_sets_of_all_values(sampling, parts):
    sizes = torch.tensor([1, 0, 7, 3, 16] * 40)
    values = draw_values(sampling, sizes, 3, torch.Generator().manual_seed(0))
    assert values.dtype == torch.int64 and values.shape == (int(sizes.sum()),)
    assert values.unique().tolist() == list(range(8))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_seeded_by_the_generator(sampling):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    a, b, c = (draw(sampling, 50, 9, 6, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_uniform():
    counts = draw("uniform", 800, 20, 3).flatten().bincount()
    assert ((counts - 2000).abs() < 250).all()


def test_range():
    values = draw("range", 4000, 64, 3)
    low, high = values.amin(1), values.amax(1)  # almost surely the ends
    for value in range(8):
        share = ((value + 1) / 8) ** 2 - (value / 8) ** 2
        assert (high == value).double().mean().item() == pytest.approx(share, abs=0.03)
        assert (low == 7 - value).double().mean().item() == pytest.approx(share, abs=0.03)
    whole = values[(low == 0) & (high == 7)]
    assert whole.flatten().bincount().double().div(whole.numel()).tolist() == pytest.approx(
        [1 / 8] * 8, abs=0.03
    )


def test_support(parts):
    values = draw("support", 2000, 100, 2)
    present = torch.stack([(values == value).any(1) for value in range(4)])
    sizes = present.sum(0).bincount(minlength=5) / 2000
    # With a uniform p every size from 0 to 4 is as likely; an empty support becomes one value.
    assert sizes.tolist() == pytest.approx([0, 0.4, 0.2, 0.2, 0.2], abs=0.04)
    assert present.double().mean(1).tolist() == pytest.approx([0.55] * 4, abs=0.04)
    two = values[present.sum(0) == 2]
    shares = (two == two.amin(1, keepdim=True)).double().mean(1)
    assert shares.mean().item() == pytest.approx(0.5, abs=0.02)
    assert ((shares - 0.5).abs() < 0.25).all()


def test_skewed(parts):
    shares = draw("skewed", 1500, 400, 1).double().mean(1)
    # Of two squares of Exp(1), one is r² times the other or more with probability 1 / (1 + r).
    for r in (1, 2, 3):
        assert (shares > r**2 / (1 + r**2)).double().mean().item() == pytest.approx(
            1 / (1 + r), abs=0.05
        )


@pytest.mark.parametrize("sampling", ["support", "skewed"])
def test_sets_differ(sampling):
    """The values of a large universe that one set holds say nothing about the next."""
    values = draw(sampling, 4, 30_000, 12)
    assert values.min() >= 0 and values.max() < 4096
    counts = torch.stack([row.bincount(minlength=4096) for row in values]).double()
    assert torch.corrcoef(counts).fill_diagonal_(0).abs().max() < 0.1


def test_range_of_many_bits():
    values = draw("range", 300, 50, 31)
    assert values.min() >= 0 and values.max() < 2**31
    assert values.max() > 2**30 and (values % 2).double().mean().item() == pytest.approx(
        0.5, abs=0.05
    )


@pytest.mark.parametrize(
    ("sampling", "bits", "message"),
    [
        ("normal", 8, r"sampling must be one of uniform, range, support, skewed \(got 'normal'\)"),
        ("range", 0, r"bits must be between 1 and 31 \(got 0\)"),
        ("uniform", 32, r"bits must be between 1 and 31 \(got 32\)"),
        ("support", 13, r"bits must be at most 12 for sampling 'support'.*\(got 13\); use fewer"),
        ("skewed", 16, r"bits must be at most 12 for sampling 'skewed'.*\(got 16\); use fewer"),
    ],
)
def test_bad_arguments(sampling, bits, message):
    with pytest.raises(ValueError, match=message):
        draw(sampling, 2, 2, bits)
