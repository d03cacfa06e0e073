"""Run a function in several processes that make a group."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]

_MAIN = """
import importlib, pickle, sys, warnings
warnings.simplefilter("ignore")
import datetime, torch, torch.distributed as dist
torch.set_num_threads(1)
module, function, rank, world, store, arguments, out = pickle.load(sys.stdin.buffer)
dist.init_process_group(
    "gloo", init_method="file://" + store, rank=rank, world_size=world,
    timeout=datetime.timedelta(seconds=30),
)
result = getattr(importlib.import_module(module), function)(rank, *arguments)
with open(out, "wb") as file:
    pickle.dump(result, file)
dist.barrier()
dist.destroy_process_group()
"""


def start(
    module: str, function: str, world: int, folder: Path, *arguments: Any
) -> list[subprocess.Popen[bytes]]:
    """Start ``function(rank, *arguments)`` of a module, once for each rank."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(REPOSITORY)}
    processes = []
    for rank in range(world):
        process = subprocess.Popen(
            [sys.executable, "-c", _MAIN],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=REPOSITORY,
            env=environment,
        )
        assert process.stdin is not None
        out = str(folder / f"{rank}.pickle")
        store = str(folder / "store")
        pickle.dump((module, function, rank, world, store, arguments, out), process.stdin)
        process.stdin.close()
        process.stdin = None
        processes.append(process)
    return processes


def run(module: str, function: str, world: int, folder: Path, *arguments: Any) -> list[Any]:
    """What ``function(rank, *arguments)`` gives on each rank.

    Raises:
        AssertionError: a process failed.
    """
    processes = start(module, function, world, folder, *arguments)
    errors = [process.communicate(timeout=120)[1].decode() for process in processes]
    for rank, (process, error) in enumerate(zip(processes, errors, strict=True)):
        assert process.returncode == 0, f"rank {rank}:\n{error}"
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(world)]
