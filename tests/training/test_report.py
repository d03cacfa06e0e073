"""Reports: numbers, tables, figures, files."""

import json
import statistics
import sys

import pytest

from lcm_graph.training import (
    environment,
    format_table,
    mean_std,
    plot_generalisation,
    write_results,
)


def test_mean_std_is_unbiased():
    values = [0.1, 0.2, 0.4]
    assert mean_std(values) == f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"
    assert mean_std([0.1, 0.2]) == "0.150 ± 0.071"
    assert mean_std([0.5]) == "0.500"
    with pytest.raises(ValueError, match="at least one number"):
        mean_std([])


def test_table():
    table = format_table(["name", 4, 16], [["sum", 0.12345, 1.0], ["lcm", 0.5, 0.25]])
    assert table.splitlines()[0].split() == ["name", "4", "16"]
    assert table.splitlines()[2].split() == ["sum", "0.123", "1.000"]


def test_figure(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra 'plots' is not installed")
    path = tmp_path / "new" / "figure.png"
    plot_generalisation(path, {"sum": {4: 0.5, 200: 0.1}, "lcm": {4: 1.0, 200: 0.9}}, (2, 16))
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000
    with pytest.raises(OSError, match="cannot write"):
        plot_generalisation(path / "inside.png", {"sum": {4: 0.5}}, (2, 16))


@pytest.mark.parametrize("package", ["matplotlib", "tabulate"])
def test_missing_extra(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pip install 'lcm-graph\[plots\]'"):
        if package == "tabulate":
            format_table(["a"], [["b"]])
        else:
            plot_generalisation(tmp_path / "x.png", {"sum": {4: 0.5}}, (2, 16))


def test_results_file(tmp_path):
    path = tmp_path / "results.json"
    write_results(path, command=["lcm-graph", "demo"], settings={"out": tmp_path}, results={"a": 1})
    content = json.loads(path.read_text())
    assert content["command"] == ["lcm-graph", "demo"] and content["results"] == {"a": 1}
    assert content["settings"] == {"out": str(tmp_path)}
    assert content["versions"] == environment()["versions"]
    assert {"platform", "cpu_count", "torch_threads"} <= content["hardware"].keys()
    with pytest.raises(TypeError, match="JSON-serialisable"):
        write_results(path, command=[], settings={}, results={"a": object()})
