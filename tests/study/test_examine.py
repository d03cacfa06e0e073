"""What is asked of a model, and why something is not."""

import pytest
from torch import nn

from lcm_graph.study import Subject, TaskSpec
from lcm_graph.study.examine import examine, failed
from lcm_graph.training import SetModel
from tests.study.made_up import tiny_config

TASK = TaskSpec("kth_minimum", "kth_minimum", 3)


def any_subject(**limits):
    return Subject(lambda bits, hidden: None, **limits)


def test_sizes_without_answers_and_beyond_the_subject():
    config = tiny_config(tasks=(TASK,), test_sizes=(3, 16, 40), alone_sizes=(2, 5, 9))
    model = SetModel("sum", 3, 8).eval()
    found = examine(config, TASK, any_subject(max_size=20), 0, model)
    assert found["accuracy"].keys() == {"3", "16", "40"}
    assert found["accuracy"]["3"] is found["accuracy"]["40"] is None
    assert 0 <= found["accuracy"]["16"] <= found["trivial"]["16"] + 1
    assert found["test_sets"] == {"3": None, "16": 8, "40": None}
    assert found["reasons"] == {
        "3": "sets of 3 have no kth_minimum",
        "40": "more than the 20 elements that the subject is asked about",
    }
    assert found["alone"].keys() == {"5", "9"}
    assert found["alone"]["5"].keys() == {"alone", "batched", "change"}
    assert examine(config, TASK, any_subject(max_size=5), 0, model)["alone"] == {}

    nothing = failed(config, TASK, any_subject(max_size=20))
    assert nothing["accuracy"] == {"3": None, "16": 0.0, "40": None}
    assert nothing.keys() == found.keys() and nothing["reasons"] == found["reasons"]


def test_seeds_have_sets_of_their_own():
    model, config = SetModel("sum", 3, 8).eval(), tiny_config(test_sets=300)
    one, again, other = (examine(config, TASK, any_subject(), seed, model) for seed in (0, 0, 1))
    assert one["trivial"] == again["trivial"] != other["trivial"]


class Failing(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x, ptr):
        raise self.error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory:\n 9 bytes"), ": 9 bytes"),
        (RuntimeError("CUDA out of memory"), "CUDA out of memory"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_no_memory_is_a_reason(error, reason):
    found = examine(tiny_config(alone_sizes=()), TASK, any_subject(), 0, Failing(error))
    assert found["accuracy"] == {"16": None, "40": None}
    assert all(text.endswith(reason) for text in found["reasons"].values())


def test_any_other_error_is_an_error():
    with pytest.raises(RuntimeError, match="a fault"):
        examine(tiny_config(), TASK, any_subject(), 0, Failing(RuntimeError("a fault")))
