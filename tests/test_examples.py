"""Examples run as they stand."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lcm_graph.datasets import (
    FOLDS,
    GRAPH_LABELS,
    NODE_LABELS,
    load_debian_dependencies,
    load_debian_files,
    load_tu_graphs,
)
from lcm_graph.training import MultitaskTask
from tests.datasets.graphs.archives import (
    write_arxiv,
    write_dependencies,
    write_files,
    write_planetoid,
    write_tu,
)
from tests.datasets.sets.idx import write_mnist

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_triton_operator(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "triton_operator.py"), run_name="__main__")
    assert capsys.readouterr().out.startswith("1,000 rotations in 6 sets")


def test_live_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--smoke", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["live_stream.py", *arguments])
    runpy.run_path(str(EXAMPLES / "live_stream.py"), run_name="__main__")
    found = re.search(r"all at once by (\S+)", capsys.readouterr().out)
    assert found is not None and float(found[1]) <= 1e-4
    assert {path.name for path in tmp_path.iterdir()} == {"second.png", "means.png"}


def test_growing_graph(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["growing_graph.py", "--smoke"])
    runpy.run_path(str(EXAMPLES / "growing_graph.py"), run_name="__main__")
    found = re.search(r"([1-9]\d*) sets without gaps differ by (\S+)", capsys.readouterr().out)
    assert found is not None and float(found[2]) <= 1e-4


def test_sage_lcm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["sage_lcm.py", "--smoke"])
    runpy.run_path(str(EXAMPLES / "sage_lcm.py"), run_name="__main__")
    found = re.fullmatch(
        r"epoch   2  loss \d\.\d+  test accuracy (\d\.\d+)\n", capsys.readouterr().out
    )
    assert found is not None and float(found[1]) <= 1


@pytest.mark.parametrize("function", ["sum", "modular_sum"])
def test_mnist_sets(
    function: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for split in ("train", "t10k"):
        write_mnist(tmp_path, split=split)
    names = ["mean", "lcm", "slots", "mix"]
    arguments = ["--root", str(tmp_path), "--function", function, "--smoke", "--aggr", *names]
    monkeypatch.setattr(sys, "argv", ["mnist_sets.py", *arguments])
    runpy.run_path(str(EXAMPLES / "mnist_sets.py"), run_name="__main__")
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["set", "size", "10", "20", "50", "200"]
    assert [row.split()[0] for row in rows] == [*names, "best"]
    for row in rows:
        assert all(0 <= float(cell) <= 1 for cell in row.split()[-4:])


def run_example(
    name: str, arguments: list[str], out: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """Run an example's smoke version, and again, from what it has kept; its results."""
    monkeypatch.setattr(sys, "argv", [name, *arguments, "--smoke", "--out", str(out)])
    written = []
    for _ in range(2):
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        written.append({path: path.stat().st_mtime_ns for path in out.glob("runs/*")})
    assert written[0] and written[0] == written[1]
    content: dict[str, Any] = json.loads((out / "results.json").read_text())
    assert content["command"][0] == "python" and content["command"][1].endswith(name)
    results: dict[str, Any] = content["results"]["runs"]
    assert all(run["step_mib"] >= 0 and run["best_epoch"] == 1 for (run,) in results.values())
    return results


AGGR = ["--aggr", "sum", "lcm"]


def test_pna_multitask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = run_example("pna_multitask.py", AGGR, tmp_path, monkeypatch)
    for (run,) in results.values():
        assert run["labels"].keys() == {*NODE_LABELS, *GRAPH_LABELS}
        assert run["test"] == pytest.approx(sum(run["labels"].values()) / 6)
        assert list(run["larger"]) == ["20-24"]


def test_pna_multitask_beyond_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What explodes on larger graphs has its other results all the same."""
    errors = MultitaskTask.errors

    def exploded(task: MultitaskTask, model: torch.nn.Module, split: str) -> torch.Tensor:
        return errors(task, model, split) * (torch.inf if split == "20-24" else 1)

    monkeypatch.setattr(MultitaskTask, "errors", exploded)
    results = run_example("pna_multitask.py", ["--aggr", "sum"], tmp_path, monkeypatch)
    assert results["sum"][0]["larger"] == {"20-24": None}
    assert capsys.readouterr().out.rstrip().endswith("inf")


@pytest.mark.parametrize("more", [[], ["--conv", "pna", "--readout", "max"], ["--conv", "gcn"]])
def test_molecules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]) -> None:
    results = run_example("ogb/mol.py", [*AGGR, *more], tmp_path, monkeypatch)
    assert all(run["test"] > 0 for (run,) in results.values())


@pytest.mark.parametrize("dataset", ["Cora", "ogbn-arxiv"])
def test_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str) -> None:
    write_planetoid(tmp_path, "Cora")
    write_arxiv(tmp_path)
    arguments = ["--root", str(tmp_path), "--dataset", dataset, "--aggr", "pna", "lcm"]
    results = run_example(
        "ogb/node.py", [*arguments, "--parts", "2"], tmp_path / "out", monkeypatch
    )
    assert all(0 <= run["test"] <= 1 for (run,) in results.values())


@pytest.mark.parametrize("task", [["deps"], ["deps", "--parts", "3"], ["files"]], ids=" ".join)
def test_debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: list[str]) -> None:
    write_dependencies(tmp_path)
    write_files(tmp_path)
    arguments = ["--root", str(tmp_path), *AGGR, "--task", *task]
    results = run_example("debian.py", arguments, tmp_path / "out", monkeypatch)
    assert all(0 <= run["test"] <= 1 for (run,) in results.values())
    assert len({run["commonest"] for (run,) in results.values()}) == 1


def test_debian_is_split_by_sources(tmp_path: Path) -> None:
    write_dependencies(tmp_path)
    write_files(tmp_path)
    script = runpy.run_path(str(EXAMPLES / "debian.py"))
    data, sets = load_debian_dependencies(tmp_path), load_debian_files(tmp_path)
    parts = script["split"](data.source)
    assert sorted(torch.cat(list(parts.values())).tolist()) == list(range(60))
    sources = [set(data.source[part].tolist()) for part in parts.values()]
    assert [len(some) for some in sources] == [12, 4, 4] and len(set.union(*sources)) == 20
    contents = [frozenset(some.tolist()) for some in sets.tokens.split(sets.ptr.diff().tolist())]
    lost = 0
    for seed in range(20):  # the last set is the second one, and mostly in another part
        script["split"].__globals__["SPLIT_SEED"] = seed
        parts = script["split_sets"](sets)
        learned = {contents[number] for number in parts["train"].tolist()}
        asked = torch.cat([parts["valid"], parts["test"]]).tolist()
        assert not learned & {contents[number] for number in asked}
        lost += len(contents) - len(parts["train"]) - len(asked)
    assert 0 < lost < 20 * 5


def test_reddit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tu(tmp_path, "STARS")
    arguments = ["--root", str(tmp_path), "--dataset", "STARS", *AGGR]
    results = run_example("reddit.py", arguments, tmp_path / "out", monkeypatch)
    assert all(0 <= run["test"] <= 1 for (run,) in results.values())
    split_fold = runpy.run_path(str(EXAMPLES / "reddit.py"))["split_fold"]
    graphs = load_tu_graphs("STARS", tmp_path)
    for fold in range(FOLDS):
        parts = split_fold(graphs, fold)
        folds = {name: {graph.fold for graph in part} for name, part in parts.items()}
        others = {*range(-1, FOLDS)} - {fold, (fold + 1) % FOLDS}  # -1: in no fold, always learned
        assert folds == {"train": others, "valid": {(fold + 1) % FOLDS}, "test": {fold}}


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_two_processes_have_the_losses_of_one(tmp_path: Path) -> None:
    script = str(EXAMPLES / "ddp.py")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    losses = []
    for number, command in ((1, [sys.executable]), (2, [*torchrun, "--nproc-per-node", "2"])):
        out = tmp_path / f"{number}.json"
        done = subprocess.run(
            [*command, script, "--out", str(out)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        content = json.loads(out.read_text())
        assert content["processes"] == number and len(content["losses"]) == 20
        losses.append(torch.tensor(content["losses"]))
    one, two = losses
    assert one[-1] < 0.9 * one[0]
    assert ((one - two).abs() / one.abs()).max() <= 1e-5


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_a_layer_in_two_processes(tmp_path: Path) -> None:
    write_dependencies(tmp_path)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", str(EXAMPLES / "sharded_layer.py")),
            *("--root", str(tmp_path), "--smoke"),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = re.search(r"values differ by (\S+), gradients by (\S+)", done.stdout)
    assert found is not None and max(map(float, found.groups())) <= 1e-4


def test_lightning_goes_on_where_it_stopped(tmp_path: Path) -> None:
    script = str(EXAMPLES / "lightning_molecules.py")
    for epochs in ("1", "2"):
        done = subprocess.run(
            [sys.executable, script, "--smoke", "--epochs", epochs, "--out", str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        assert "test_rmse" in done.stdout
    assert "Restored all states from the checkpoint" in done.stderr
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert last["global_step"] == 2 * 9  # of two epochs
    command = [sys.executable, script, "--smoke", "--aggr", "max", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "aggr was 'lcm' there and is 'max' now" in done.stderr
    command = [sys.executable, script, "--smoke", "--epochs", "1", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "--epochs must be at least 2" in done.stderr


RISING = """
import itertools, runpy, sys, torch, torchmetrics
rising = itertools.count(1.0)
torchmetrics.MeanSquaredError.compute = lambda metric: torch.tensor(next(rising))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_lightning_keeps_the_last_epoch_also_if_it_is_not_the_best(tmp_path: Path) -> None:
    script = str(EXAMPLES / "lightning_molecules.py")
    command = [sys.executable, "-c", RISING, script, "--smoke", "--epochs", "3"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (best,) = {path.name for path in tmp_path.glob("*.ckpt")} - {"last.ckpt"}
    assert best.startswith("epoch=0")
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 3 * 9


def test_mnist_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("train", "t10k"):
        write_mnist(tmp_path, split=split)
    names = ["pyg", "transformer", "induced", "pma", "perceiver", "slots", "sum"]
    arguments = ["--root", str(tmp_path), "--aggr", *names]
    results = run_example("attention/mnist_pixels.py", arguments, tmp_path / "out", monkeypatch)
    assert list(results) == names
    (pyg,), (ours,) = results["pyg"], results["transformer"]
    assert pyg["parameters"] == ours["parameters"]


def test_order_free_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["gru", "lcm", "lcm-assoc", "lifted-max", "lifted-sum"]
    arguments = ["--aggr", *names]
    results = run_example("attention/order_free_stream.py", arguments, tmp_path, monkeypatch)
    assert list(results) == names
    for name, (run,) in results.items():
        assert run["gap"] <= 1e-5  # chunk by chunk, and all at once
        assert run["state_numbers"] == (8 if name == "gru" else 8 * 8)  # 128 chunks: 8 digits
        if name.startswith("lifted"):
            assert not any(run["differing"].values())
