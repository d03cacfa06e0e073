"""Every figure that there is something for is a PNG."""

import pytest

from lcm_graph.study.figures import draw_figures
from tests.study.made_up import made_up_run

pytest.importorskip("matplotlib", reason="the extra 'plots' is not installed")


def test_all_figures(tmp_path):
    errors = {"associativity_error": 0.1, "associativity_by_epoch": [0.3, None, 0.1]}
    runs = [
        made_up_run("one", "a", 0, {16: 1.0, 40: 0.5}, **errors),
        made_up_run("one", "b", 0, {16: 1.0, 40: None}),
        made_up_run("two", "a", 0, {16: 1.0, 40: None}, **errors),
    ]
    paths = draw_figures(tmp_path / "figures", runs, (2, 16), 40)
    assert [path.name for path in paths] == [
        "accuracy-one.png",
        "accuracy-two.png",
        "associativity-one.png",
        "associativity-two.png",
        "error-and-accuracy.png",
        "evaluation-time.png",
    ]
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000


def test_nothing_to_show(tmp_path):
    run = made_up_run("one", "a", 0, {16: 0.5}, seconds_per_element={"16": None})
    paths = draw_figures(tmp_path, [run], (2, 16), 40)
    assert [path.name for path in paths] == ["accuracy-one.png"]
