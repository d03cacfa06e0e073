"""Examples run as they stand."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_triton_operator(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "triton_operator.py"), run_name="__main__")
    assert capsys.readouterr().out.startswith("1,000 rotations in 6 sets")
