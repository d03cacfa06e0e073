"""Aggregations compared over seeds."""

import json
import sys

import pytest
import torch

from lcm_graph.training import compare, comparison_parser


def run(aggr, seed, epochs, device, scale):
    assert torch.get_num_threads() == 1
    return {"score": scale * (len(aggr) + seed) / epochs}


def parsed(out, *arguments):
    parser = comparison_parser(None, aggr=["sum", "lcm-assoc"], runs=2, epochs=4, out=str(out))
    return parser.parse_args(arguments)


COLUMNS = {"score": lambda result: result["score"]}


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_table_and_results(tmp_path, capsys, monkeypatch, jobs):
    monkeypatch.setattr(sys, "argv", ["script.py", "--jobs", jobs])
    threads = torch.get_num_threads()
    results = compare(run, parsed(tmp_path, "--jobs", jobs), {"scale": 2}, COLUMNS)
    assert torch.get_num_threads() == threads
    assert results == {
        "sum": [{"score": 1.5}, {"score": 2.0}],
        "lcm-assoc": [{"score": 4.5}, {"score": 5.0}],
    }
    printed = capsys.readouterr().out
    assert "sum--1: score 2\n" in printed and "1.750 ± 0.354" in printed
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["results"] == results
    assert content["command"] == ["python", "script.py", "--jobs", jobs]
    assert content["settings"]["scale"] == 2 and content["settings"]["aggr"] == ["sum", "lcm-assoc"]
    again = compare(run, parsed(tmp_path, "--aggr", "sum", "--runs", "1"), {"scale": 2}, COLUMNS)
    assert again == {"sum": [{"score": 1.5}]} and "sum--0:" not in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"sum--0.json was made with other settings: scale was 2"):
        compare(run, parsed(tmp_path), {"scale": 3}, COLUMNS)


@pytest.mark.parametrize("option", ["--runs", "--epochs", "--jobs"])
def test_bad_options(tmp_path, option):
    with pytest.raises(ValueError, match=rf"{option} must be at least 1 \(got 0\)"):
        compare(run, parsed(tmp_path, option, "0"), {"scale": 1}, COLUMNS)
    with pytest.raises(SystemExit):
        parsed(tmp_path, "--aggr", "odd")
