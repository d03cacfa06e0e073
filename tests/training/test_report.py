"""Reports: numbers, tables, files."""

import json
import math
import statistics
import sys

import pytest

from lcm_graph.training import (
    environment,
    format_table,
    mean_std,
    write_results,
)


def test_mean_std_is_unbiased():
    values = [0.1, 0.2, 0.4]
    assert mean_std(values) == f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"
    assert mean_std([0.1, 0.2]) == "0.150 ± 0.071"
    assert mean_std([0.5]) == "0.500"
    assert mean_std([1.0, math.inf]) == "inf"
    with pytest.raises(ValueError, match="at least one number"):
        mean_std([])


def test_table():
    table = format_table(["name", 4, 16], [["sum", 0.12345, 1.0], ["lcm", 0.5, 0.25]])
    assert table.splitlines()[0].split() == ["name", "4", "16"]
    assert table.splitlines()[2].split() == ["sum", "0.123", "1.000"]


def test_missing_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tabulate", None)
    with pytest.raises(ImportError, match=r"pip install 'lcm-graph\[plots\]'"):
        format_table(["a"], [["b"]])


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
