"""Compile, for a GPU that is not there, whatever the launcher would launch.

``python -m tests.kernels.segment.ahead_of_time CAPABILITY CASES`` runs the reductions of a JSON
list of ``[name, dtype, d]`` with a driver that compiles and does not run, so that what is compiled
is what a GPU of that compute capability would be given, and prints a JSON list of
:class:`Compiled`. It must run without ``TRITON_INTERPRET``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from lcm_graph.kernels.segment import backward
from lcm_graph.kernels.segment import triton_closed_forms as kernels
from lcm_graph.kernels.segment.tasks import transpose
from lcm_graph.kernels.segment.triton_kernels import segment_fold_kernel
from tests.kernels.segment.batches import HUB, SIZES, batch


class Compiled(NamedTuple):
    """A kernel's resources; memory in bytes, registers of a thread."""

    case: str
    registers: int
    spilled: int
    shared: int
    pointers: str  # the types of addresses computed in it


class Absent:
    """A driver for a device that is not there."""

    def __init__(self, capability: int) -> None:
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def run(name: str, x: Tensor) -> None:
    """Reduce with all that the batches of :mod:`batches` make the launcher do."""
    segments = batch([*SIZES, HUB])
    by_row = transpose(segments, len(x))
    sets = torch.ones(segments.num_sets, x.size(1))
    number = torch.ones(())
    calls: dict[str, Callable[[], Any]] = {
        "sum": lambda: kernels.segment_sum(x, segments),
        "max": lambda: kernels.segment_max(x, segments),
        "mean": lambda: kernels.segment_mean(x, segments),
        "moments": lambda: kernels.segment_moments(x, segments),
        "logsumexp": lambda: kernels.segment_logsumexp(x, segments),
        "softmax": lambda: kernels.segment_softmax(x, segments, number),
        "attention": lambda: kernels.segment_attention(x, x[:, :1], segments),
        "extremum_backward": lambda: backward.extremum_backward(sets, x, sets, segments, by_row),
        "moments_backward": lambda: backward.moments_backward(
            sets, sets, x, sets[:, :1], sets, by_row
        ),
        "softmax_backward": lambda: backward.softmax_backward(sets, sets, x, x, sets, by_row),
    }
    calls[name]()


def main(capability: str, cases: str) -> None:
    driver.set_active(Absent(int(capability)))
    compile_and_run = segment_fold_kernel.run
    found: list[Compiled] = []
    seen = set()
    case = ""

    def compile_only(*args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        kernel = compile_and_run(*args, grid=grid, warmup=True, **options)
        if kernel.hash not in seen:
            seen.add(kernel.hash)
            found.append(describe(f"{case}-{options['LEVELS']}", kernel))
        return kernel

    segment_fold_kernel.run = compile_only
    for name, dtype, d in json.loads(cases):
        case = f"{name}-{dtype}-{d}"
        run(name, torch.randn(sum(SIZES) + HUB, d).to(getattr(torch, dtype)))
    print(json.dumps(found))


def describe(case: str, kernel: Any) -> Compiled:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        usage = subprocess.check_output(command, text=True)
    numbers = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert numbers is not None, usage
    addresses = set(re.findall(r"tt\.addptr .*, tensor<\S+x(i\d+)>", kernel.asm["ttir"]))
    return Compiled(
        case, int(numbers[1]), int(numbers[2]), kernel.metadata.shared, " ".join(addresses)
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
