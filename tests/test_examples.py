"""Examples run as they stand."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from tests.datasets.idx import write_mnist

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_triton_operator(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "triton_operator.py"), run_name="__main__")
    assert capsys.readouterr().out.startswith("1,000 rotations in 6 sets")


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
