"""The benchmark for GPUs runs; its figures take a GPU."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("triton")

from benchmarks import gpu, gpu_correctness, gpu_measure, gpu_speed
from lcm_graph.kernels.binary_gru.triton_launch import float32_precision

QUICK = ["--device", "cpu", "--quick"]


def test_all_of_it_on_tiny_sizes(tmp_path, capsys):
    path = tmp_path / "gpu.json"
    assert gpu.main([*QUICK, "--json", str(path)]) == 0
    result = json.loads(path.read_text())
    assert result["correctness"]["passed"] and not result["correctness"]["unfinished"]
    assert result["correctness"]["largest_errors"]["fold"]["fp32"] > 0
    assert result["left_out"] == []
    timed = [name for name in gpu.NAMES[1:] if result[name]]
    assert timed == [
        "equal", "heavy_tailed", "long_set", "closed_forms", "memory", "layer"
    ]  # fmt: skip
    for name in timed:
        for row in result[name]:
            for found in row.get("seconds", {}).values():
                assert found.get("median", 0) > 0, (name, row)
    for row in result["equal"]:
        assert all(d < 0.05 for d in row["largest_difference"].values())
        assert {"PyG LCM", "torch backend"} <= set(row["largest_difference"])
    assert [row["launches"] for row in result["long_set"]] == [2]
    assert {t["met"] for t in result["targets"]} == {False, None}
    assert "NOT MET" in capsys.readouterr().out


def test_a_wrong_kernel_ends_it(monkeypatch, tmp_path, capsys):
    def wrong(task: gpu_correctness.Task, findings: gpu_correctness.Findings) -> None:
        findings.close("values", torch.tensor([1.0, torch.nan]), torch.ones(2))
        findings.same("bits", torch.ones(1), torch.zeros(1))
        raise RuntimeError("out of order")

    path = tmp_path / "gpu.json"
    for kind in gpu_correctness.CHECKS:
        monkeypatch.setitem(gpu_correctness.CHECKS, kind, wrong)
    assert gpu.main([*QUICK, "--json", str(path)]) == 1
    result = json.loads(path.read_text())
    assert "equal" not in result and not result["correctness"]["passed"]
    failures = next(c["failures"] for c in result["correctness"]["checks"] if c["failures"])
    assert len(failures) == 3
    assert "FAILED  fold, fp32, d = 16: RuntimeError: out of order" in capsys.readouterr().out


def test_what_there_is_no_time_for_is_left_out(tmp_path):
    path = tmp_path / "gpu.json"
    assert gpu.main([*QUICK, "--json", str(path), "--seconds", "0"]) == 0
    result = json.loads(path.read_text())
    assert len(result["correctness"]["unfinished"]) == len(result["correctness"]["checks"])
    assert not any(result[name] for name in gpu.NAMES[1:])
    assert len(result["left_out"]) > 15


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu(capsys):
    assert gpu.main([]) == 2
    assert "needs a CUDA device" in capsys.readouterr().err
    assert gpu.main(["--device", "cpu"]) == 2


def test_products_of_float32_are_rounded_as_the_format_says():
    before = float32_precision()
    for name, precision in (("fp32", "ieee"), ("tf32", "tf32")):
        with gpu_measure.float32_products(name):
            assert float32_precision() == precision
    assert float32_precision() == before


def test_a_call_that_fails_is_named():
    def fail() -> None:
        raise ValueError("too large\nby far")

    bench = gpu_measure.Bench(torch.device("cpu"), True, 0.0)
    seconds = gpu_measure.timed(bench, {"bad": fail, "good": lambda: None})
    assert seconds["bad"] == {"error": "ValueError: too large"}
    assert seconds["good"]["repeats"] == 1


def test_sizes():
    sets = gpu_speed.heavy_tailed(4096, 2000)
    assert sets.sizes.min() == 1 and sets.sizes.max() == 2000
    assert 5 < sets.elements / 4096 < 12
    assert gpu_speed.equal_sets(64, 16).pairs == 60
