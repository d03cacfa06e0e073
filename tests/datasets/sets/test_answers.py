"""Labels as targets, which answers are right, and the best constant."""

import pytest
import torch

from lcm_graph.datasets import best_constant, encode, is_right


def test_encode():
    labels = torch.tensor([5, 0, 6])
    bits = encode(labels, "bits", 3)
    assert bits.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 1]] and bits.dtype == torch.float32
    assert torch.equal(encode(labels, "class", 3), labels)
    real = encode(labels.double() / 4, "real", 3)
    assert real.tolist() == [[1.25], [0.0], [1.5]] and real.dtype == torch.float32


def test_bits_are_right_together():
    y = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    logits = torch.tensor([[0.1, -0.1], [0.1, 0.1], [-3.0, -0.1]])
    assert is_right(logits, y, "bits").tolist() == [True, False, False]


def test_the_largest_logit_is_the_class():
    logits = torch.tensor([[0.1, 0.3, 0.2], [-1.0, -2.0, -3.0]])
    assert is_right(logits, torch.tensor([1, 1]), "class").tolist() == [True, False]


def test_real_answers_have_a_tolerance():
    y = torch.tensor([[10.0], [10.0], [10.0], [0.0], [0.0], [-10.0]])
    logits = torch.tensor([[10.504], [9.496], [10.506], [-0.0049], [0.0051], [-9.5]])
    assert is_right(logits, y, "real").tolist() == [True, True, False, True, False, True]


@pytest.mark.parametrize("answer", ["bits", "class"])
def test_best_constant_is_the_most_common(answer):
    assert best_constant(torch.tensor([3, 1, 3, 2, 1, 3, 0]), answer) == 3 / 7


@pytest.mark.parametrize("spread", [0.01, 0.3, 3.0])
def test_best_real_constant(spread):
    labels = (1 + spread * torch.randn(200, dtype=torch.float64)).round(decimals=2)
    grid = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    counts = torch.zeros(len(grid), dtype=torch.long)
    for y in labels.tolist():
        counts += (grid - y).abs() <= 0.05 * abs(y) + 0.005
    assert best_constant(labels, "real") == pytest.approx(counts.max().item() / 200, abs=0.011)
    assert best_constant(labels, "real") >= counts.max().item() / 200


def test_best_real_constant_of_few():
    assert best_constant(torch.tensor([1.0]).double(), "real") == 1
    assert best_constant(torch.tensor([1.0, 1.0, 2.0]).double(), "real") == 2 / 3
    assert best_constant(torch.tensor([1.0, 1.1, 2.0]).double(), "real") == 2 / 3  # by 1.05
    assert best_constant(torch.tensor([0.0, 0.011]).double(), "real") == 1 / 2


def test_unknown_answer():
    labels = torch.tensor([1])
    for call in (
        lambda: encode(labels, "word", 3),
        lambda: is_right(labels, labels, "word"),
        lambda: best_constant(labels, "word"),
    ):
        with pytest.raises(ValueError, match=r"answer must be one of bits, class, real"):
            call()


@pytest.mark.parametrize(
    ("answer", "y"),
    [("bits", torch.zeros(2, 3)), ("class", torch.zeros(2).long()), ("real", torch.zeros(2, 1))],
)
def test_nan_is_never_right(answer, y):
    outputs = 1 if answer == "real" else 3
    logits = torch.full((2, outputs), torch.nan)
    logits[1] = -1.0 if answer == "bits" else 0.0
    assert is_right(logits, y, answer).tolist() == [False, True]


@pytest.mark.parametrize(
    ("answer", "logits", "y"),
    [
        ("real", (3, 1), (3,)),
        ("bits", (3, 4), (3,)),
        ("class", (3, 4), (3, 1)),
        ("real", (3,), (3,)),
    ],
)
def test_shapes_that_would_broadcast_are_refused(answer, logits, y):
    with pytest.raises(ValueError, match=rf"logits must be \[S, outputs\] .* answer '{answer}'"):
        is_right(torch.zeros(logits), torch.zeros(y), answer)
