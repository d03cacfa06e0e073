"""Compile kernels for GPUs that are not there.

``python -m tests.kernels.ahead_of_time MODULE CAPABILITY CASES`` compiles what
``MODULE.configurations(channels, dtype, precision, capability)`` lists, for every case of a JSON
list of ``[channels, dtype, precision]``, and prints a JSON list of :func:`compiled`'s results. It
must run without ``TRITON_INTERPRET``.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
import triton.backends.nvidia
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

TYPES = {
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int64: "*i64",
}


def compile_in_subprocess(module: str, capability: int, cases: list[Any]) -> list[dict[str, Any]]:
    """The results of this module's command."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.kernels.ahead_of_time", module]
    output = subprocess.run(
        [*command, str(capability), json.dumps(cases)],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert output.returncode == 0, output.stderr
    return json.loads(output.stdout)


def source(launch: Any) -> ASTSource:
    """What Triton would compile at the first such launch."""
    kernel = launch.kernel
    signature, constants, attributes = {}, {}, {}
    for place, (name, parameter) in enumerate(zip(kernel.arg_names, kernel.params, strict=True)):
        value = launch.arguments[name]
        if isinstance(value, Tensor):
            signature[name] = TYPES[value.dtype]
        elif parameter.is_constexpr or (value == 1 and not parameter.do_not_specialize):
            signature[name] = "constexpr"
            constants[name] = value
            continue
        else:
            signature[name] = "i32"
        divisible = isinstance(value, Tensor) or value % 16 == 0
        if divisible and not (
            parameter.do_not_specialize or parameter.do_not_specialize_on_alignment
        ):
            attributes[(place,)] = [["tt.divisibility", 16]]
    return ASTSource(kernel, signature, constants, attributes)


def compiled(launch: Any, capability: int) -> dict[str, Any]:
    """Its name, bytes of shared memory and of machine code, registers and bytes they spill."""
    target = GPUTarget("cuda", capability, 32)
    kernel = triton.compile(source(launch), target=target, options=dict(launch.options))
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        tool = Path(triton.backends.nvidia.__path__[0], "bin", "cuobjdump")
        usage = subprocess.check_output([tool, "-res-usage", file.name], text=True)
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found is not None, usage
    return {
        "kernel": launch.kernel.__name__,
        "shared": kernel.metadata.shared,
        "code": len(kernel.asm["cubin"]),
        "registers": int(found[1]),
        "stack": int(found[2]),
        "ttgir": kernel.asm["ttgir"],
    }


def main(module: str, capability: str, cases: str) -> None:
    configurations = importlib.import_module(module).configurations
    results = [
        {"case": [channels, dtype, precision], **compiled(launch, int(capability))}
        for channels, dtype, precision in json.loads(cases)
        for launch in configurations(channels, getattr(torch, dtype), precision, int(capability))
    ]
    print(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
