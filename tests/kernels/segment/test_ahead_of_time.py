"""What the interpreter lets pass and a compiler may not: every kernel, for GPUs of two kinds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SHARED = {80: 99 * 1024, 90: 227 * 1024}  # of a block; capability 8.6 and 8.9 allow 99 KiB

CASES = {
    90: [
        ("sum", "float32", 64),
        ("sum", "bfloat16", 1),
        ("max", "float64", 3),
        ("moments", "float32", 33),
        ("logsumexp", "bfloat16", 64),
        ("softmax", "float32", 16),
        ("extremum_backward", "float32", 64),
    ],
    80: [
        ("mean", "float32", 64),
        ("attention", "float16", 64),
        ("moments_backward", "float32", 33),
        ("softmax_backward", "bfloat16", 64),
    ],
}


@pytest.mark.parametrize("capability", CASES)
def test_compiles(capability: int, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    module = "tests.kernels.segment.ahead_of_time"
    result = subprocess.run(
        [sys.executable, "-m", module, str(capability), json.dumps(CASES[capability])],
        cwd=Path(__file__).parents[3],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    compiled = json.loads(result.stdout)
    names = {case.rpartition("-")[0] for case, *_ in compiled}
    assert names == {f"{name}-{dtype}-{d}" for name, dtype, d in CASES[capability]}
    for case, registers, spilled, shared, addresses in compiled:
        assert registers <= 255, case
        assert spilled <= 16, case
        assert shared <= SHARED[capability], case
        assert addresses == "i64", case
