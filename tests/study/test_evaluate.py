"""Measurements by hand-made models whose answers are known."""

import pytest
import torch
from torch import nn

from lcm_graph.datasets import SetStream
from lcm_graph.study.evaluate import measure_alone, measure_size
from lcm_graph.training import SetModel, set_accuracy


class Fixed(nn.Module):
    """Answers every set alike, and counts the batches and elements that it sees."""

    def __init__(self, out):
        super().__init__()
        self.out, self.seen = torch.tensor(out), []

    def forward(self, x, ptr):
        self.seen.append((len(x), len(ptr) - 1))
        return self.out.expand(len(ptr) - 1, -1)


@pytest.mark.parametrize(
    ("name", "out"),
    [("second_minimum", [-1.0, -1, -1]), ("majority", [0.0, 1.0]), ("sum", [0.5])],
)
def test_size(name, out):
    sets = SetStream(name, 40, 6, bits=3, seed=2)
    model = Fixed(out)
    test = measure_size(model, sets, batch_elements=96)
    assert model.seen == [(96, 16), (96, 16), (48, 8)]
    assert test.trivial == pytest.approx(sets.trivial_accuracy())
    assert test.accuracy <= test.trivial and test.test_sets == 40 and test.seconds_per_element > 0


def test_one_set_at_a_time_where_one_is_too_large():
    model = Fixed([0.0, 1.0])
    measure_size(model, SetStream("parity", 3, 50), batch_elements=20)
    assert model.seen == [(50, 1)] * 3


def test_accuracy_is_that_of_training():
    model, sets = SetModel("lcm", 3, 8).eval(), SetStream("second_minimum", 50, 9, bits=3)
    assert measure_size(model, sets, 100).accuracy == set_accuracy(model, sets)


def test_alone_and_in_company_are_the_same_sets():
    model = SetModel("lcm", 4, 8).eval()
    streams = [SetStream("second_minimum", 20, size, bits=4, seed=size) for size in (2, 7, 33)]
    tests = measure_alone(model, streams)
    assert list(tests) == [2, 7, 33]
    for stream in streams:
        test = tests[stream.size]
        assert test.alone == test.batched == pytest.approx(set_accuracy(model, stream))
        assert test.change is not None and test.change < 1e-5


def test_company_is_all_sizes_and_eight_sets_of_each():
    model = Fixed([0.0, 1.0])
    measure_alone(model, [SetStream("parity", 20, size) for size in (2, 50)])
    together = [seen for seen in model.seen if seen[1] > 1]
    assert together == [(416, 16), (416, 16), (208, 8)]
    assert model.seen.count((2, 1)) == model.seen.count((50, 1)) == 20


def test_a_model_that_looks_at_its_company():
    class Largest(nn.Module):
        def forward(self, x, ptr):
            return ptr.diff().max().float().expand(len(ptr) - 1, 1)

    tests = measure_alone(Largest(), [SetStream("sum", 4, size) for size in (2, 10)])
    assert tests[2].change == pytest.approx((10 - 2) / 2) and tests[10].change == 0


def test_nothing_to_ask():
    assert measure_alone(Fixed([0.0]), []) == {}
