"""The report of runs that were written by hand."""

import json

import pytest

from lcm_graph.study import write_report
from lcm_graph.study.run_files import run_path, run_settings
from lcm_graph.training.run_files import write_run
from tests.study.made_up import made_up_run, tiny_config

for extra in ("matplotlib", "tabulate"):
    pytest.importorskip(extra)


def write(out, config, results):
    for run in config.runs()[: len(results)]:
        write_run(run_path(out, *run), run_settings(config, *run), results[run[0].name, run[1]])


def made_up(accuracy, **result):
    return made_up_run("", "", 0, {16: 1.0, 40: accuracy}, **result).result


def test_report(tmp_path):
    config = tiny_config()
    write(
        tmp_path,
        config,
        {
            ("second_minimum@3", "sum"): made_up(0.5, diverged="loss is nan"),
            ("second_minimum@3", "lcm"): made_up(
                0.75, associativity_error=0.2, associativity_by_epoch=[0.5, 0.2]
            ),
            ("parity", "sum"): made_up(None, reasons={"40": "no memory"}),
        },
    )
    text = write_report(config, tmp_path, ["lcm-graph", "study"])
    assert text == (tmp_path / "report.md").read_text()
    assert "3 of 4 runs" in text and "### parity" in text
    assert "- `sum`, parity, sets of 40: no memory" in text
    assert "- `sum`, second_minimum@3, seed 0: loss is nan" in text
    assert "## The same sets alone" not in text
    for line in text.splitlines():
        if line.startswith("!["):
            assert (tmp_path / line.split("(")[1].rstrip(")")).read_bytes().startswith(b"\x89PNG")

    saved = json.loads((tmp_path / "results.json").read_text())
    assert saved["command"] == ["lcm-graph", "study"] and saved["settings"]["hidden"] == 8
    assert saved["settings"]["tasks"][0]["bits"] == 3
    assert {"versions", "hardware"} <= saved.keys()
    results = saved["results"]
    assert (results["finished"], results["planned"], len(results["runs"])) == (3, 4, 3)
    assert results["accuracy"]["second_minimum@3"]["lcm"]["40"] == [0.75]
    assert results["places"]["40"]["second_minimum@3"]["lcm"]["rank"] == 1
    assert results["places"]["40"]["parity"] == {}
    assert results["standings"]["40"]["lcm"]["tasks"] == 1
    (line,) = results["associativity"]["second_minimum@3"]["subjects"]
    assert (line["first"], line["last"], line["accuracy"]) == (0.5, 0.2, [0.75])
    assert "### second_minimum@3: γ is not defined" in text
    assert len(results["environments"]) == 1


def test_no_runs(tmp_path):
    with pytest.raises(ValueError, match="holds no run of this study yet"):
        write_report(tiny_config(), tmp_path, [])
