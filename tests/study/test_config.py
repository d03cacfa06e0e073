"""What a study runs is checked before anything runs."""

import pickle

import pytest

from lcm_graph.datasets import SET_FUNCTIONS
from lcm_graph.study import TaskSpec
from tests.study.made_up import tiny_config


def test_a_task_has_the_function_s_bits_and_sampling_unless_told():
    spec = TaskSpec("mode", "mode")
    assert (spec.bits, spec.sampling) == (3, "skewed") and spec.set_function.name == "mode"
    spec = TaskSpec("m@16", "second_minimum", 16, "range")
    assert (spec.bits, spec.sampling) == (16, "range")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a/b", "mode"), r"letters, digits and @ . \+ - _ \(got 'a/b'\)"),
        (("x", "magic"), r"task 'x': function must be one of second_minimum.*\(got 'magic'\)"),
        (("x", "mode", 99), r"task 'x': bits must be between 1 and 31 \(got 99\)"),
        (("x", "mode", 3.0), r"task 'x': bits must be an integer, at least 1 \(got 3.0\)"),
        (("x", "mode", 3, "odd"), r"task 'x': sampling must be one of .*\(got 'odd'\)"),
    ],
)
def test_bad_tasks(arguments, message):
    with pytest.raises(ValueError, match=message):
        TaskSpec(*arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ()}, r"tasks must name at least 1 \(got none\)"),
        ({"subjects": ("sum", "magic")}, r"subjects must be among sum, mean.*\(got 'magic'\)"),
        ({"subjects": ("sum", "sum")}, r"subjects must not name anything twice \(got sum, sum\)"),
        ({"seeds": ()}, r"seeds must name at least 1"),
        (
            {"seeds": (-1,)},
            r"seeds must be an integer, at least 0 and at most 1000000000 \(got -1\)",
        ),
        ({"hidden": 0}, r"hidden must be an integer, at least 1 \(got 0\)"),
        ({"epochs": 2.5}, r"epochs must be an integer, at least 1 \(got 2.5\)"),
        ({"jobs": True}, r"jobs must be an integer, at least 1 \(got True\)"),
        ({"lr": 0}, r"lr must be a positive number \(got 0\)"),
        ({"clip_norm": "1"}, r"clip_norm must be a positive number \(got '1'\)"),
        ({"schedule": "cosine"}, r"schedule must be among constant, one_cycle \(got 'cosine'\)"),
        ({"test_sizes": (40, "16")}, r"test_sizes must be an integer.*\(got '16'\)"),
        ({"alone_sizes": (4,)}, r"alone_sizes must be none or at least two, .*\(got 4\)"),
        ({"rank_sizes": (16, 41)}, r"rank_sizes must be among 16, 40 \(got 41\)"),
        ({"optimizer": "sgd"}, r"optimizer must be among adam, amsgrad \(got 'sgd'\)"),
        ({"keep": "first"}, r"keep must be among best, last \(got 'first'\)"),
        (
            {"tasks": (TaskSpec("kth_minimum", "kth_minimum"),), "max_train_size": 3},
            r"max_train_size must be at least 4 for task 'kth_minimum' \(got 3\)",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_configurations(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(**changes)


def test_the_first_seed_comes_first():
    runs = [(task.name, *rest) for task, *rest in tiny_config(seeds=(3, 1)).runs()]
    assert len(runs) == 8 and runs[0] == ("second_minimum@3", "sum", 3)
    assert [seed for *_, seed in runs] == [3] * 4 + [1] * 4


def test_large_sets_are_fewer():
    config = tiny_config(test_sets=100, max_test_elements=1000)
    assert [config.num_test_sets(size) for size in (1, 10, 11, 999, 1001)] == [100, 100, 90, 1, 1]


def test_narrowed():
    config = tiny_config()
    assert config.narrowed() == config
    other = config.narrowed(["second_minimum@3", "mode"], ["gru"], [7])
    assert [task.name for task in other.tasks] == ["second_minimum@3", "mode"]
    assert other.tasks[0] == config.tasks[0]
    assert (other.subjects, other.seeds) == (("gru",), (7,))
    with pytest.raises(ValueError, match=r"tasks must be among second_minimum@3, .*\(got 'odd'\)"):
        config.narrowed(["odd"])
    with pytest.raises(ValueError, match=rf"{SET_FUNCTIONS[-1]} \(got 'odd'\)"):
        config.narrowed(["odd"])


def test_it_travels_between_processes():
    assert pickle.loads(pickle.dumps(tiny_config())) == tiny_config()


def test_ranks_are_at_200_or_the_largest_size():
    assert tiny_config(rank_sizes=()).rank_sizes == (40,)
    assert tiny_config(rank_sizes=(), test_sizes=(16, 200, 1000)).rank_sizes == (200,)


def test_a_seed_too_large_for_the_data():
    with pytest.raises(ValueError, match=r"seeds must be an integer, .* at most 1000000000 \(got "):
        tiny_config(seeds=(2**64,))
