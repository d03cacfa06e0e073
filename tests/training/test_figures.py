"""Figures are PNG files, whatever is drawn."""

import sys

import pytest

from lcm_graph.training import plot_generalisation, plot_lines, plot_points


def generalisation(path):
    plot_generalisation(path, {"sum": {4: 0.5, 200: 0.1}, "lcm": {4: 1.0, 200: 0.9}}, (2, 16))


def many_lines(path):
    lines = {str(number): {1: 0.1, 5: 1.0 + number} for number in range(45)}
    plot_lines(path, lines | {"none": {}}, xlabel="x", ylabel="y", log_x=True, log_y=True)


def points(path):
    plot_points(path, {"a": [(0.1, 2.0), (10, 3)], "b": []}, xlabel="x", ylabel="y", log_x=True)


@pytest.mark.parametrize("draw", [generalisation, many_lines, points])
def test_figure(tmp_path, draw):
    pytest.importorskip("matplotlib", reason="the extra 'plots' is not installed")
    path = tmp_path / "new" / "figure.png"
    draw(path)
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000
    with pytest.raises(OSError, match="cannot write"):
        draw(path / "inside.png")


@pytest.mark.parametrize("draw", [generalisation, many_lines, points])
def test_missing_extra(tmp_path, monkeypatch, draw):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'lcm-graph\[plots\]'"):
        draw(tmp_path / "x.png")
