"""The kernels compile for GPUs, within what a GPU has."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

from tests.kernels.ahead_of_time import compile_in_subprocess

CASES = {
    80: [(64, "float32", "ieee"), (33, "bfloat16", "ieee")],
    90: [(128, "float32", "tf32"), (512, "bfloat16", "ieee")],
}
SHARED = {80: 163 * 1024, 90: 227 * 1024}  # bytes a program may have
KERNELS = {
    "level_fwd",
    "joined_fwd",
    "level_bwd_gates",
    "level_bwd_inputs",
    "joined_bwd",
    "bwd_weights",
    "sum_occurrences",
}
# Of a program's threads, between what some write and others read; the interpreter needs none.
BARRIERS = {"joined_fwd": 1, "joined_bwd": 2}


@pytest.mark.parametrize("capability", CASES)
def test_kernels_compile(capability):
    cases = CASES[capability]
    results = compile_in_subprocess(
        "lcm_graph.kernels.binary_gru.triton_fold", capability, list(cases)
    )
    assert {result["kernel"] for result in results} == KERNELS
    assert {tuple(result["case"]) for result in results} == set(cases)
    for result in results:
        assert result["code"] > 0
        assert result["shared"] <= SHARED[capability], result["kernel"]
        assert result["stack"] <= 1024, result["kernel"]  # registers spilled, bytes a thread
        assert result["ttgir"].count("ttg.barrier") == BARRIERS.get(result["kernel"], 0)
