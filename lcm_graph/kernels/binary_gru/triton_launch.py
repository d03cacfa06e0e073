"""How the kernels are launched: tile sizes, number formats, and a launch as a value."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from lcm_graph.kernels.binary_gru import triton_kernels

INTERPRETING = not isinstance(triton_kernels.level_fwd, triton.JITFunction)
SPLIT_PAIRS = 1024  # whose weight gradients are added up by one program, before all programs'


class Launch(NamedTuple):
    """A kernel, how many programs of it, and its arguments by name."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: Mapping[str, Any]
    options: Mapping[str, Any]  # num_warps, num_stages, enable_fp_fusion

    def __call__(self) -> None:
        if 0 in self.grid:
            return
        device = next(v for v in self.arguments.values() if isinstance(v, Tensor)).device
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            self.kernel[self.grid](**self.arguments, **self.options)


class Config(NamedTuple):
    """All that is fixed when the kernels are compiled.

    The levels of a tree share one configuration, and with it the order in which products are added
    up: a value does not depend on whether its level was joined with others.
    """

    constants: dict[str, Any]
    options: dict[str, Any]

    def launch(self, kernel: Any, grid: tuple[int, ...], **arguments: Any) -> Launch:
        """Of the arguments and constants those that the kernel takes."""
        known = {**arguments, **self.constants}
        return Launch(kernel, grid, {n: known[n] for n in kernel.arg_names}, self.options)

    def programs(self, pairs: int, width: str) -> tuple[int]:
        """As many as there are tiles of pairs times blocks of channels ("BN" or "BC")."""
        blocks = triton.cdiv(self.constants["D"], self.constants[width])
        return (triton.cdiv(pairs, self.constants["BM"]) * blocks,)


def config(
    channels: int, dtype: torch.dtype, precision: str | None = None, capability: int = 80
) -> Config:
    """The configuration for elements ``[n, channels]`` of ``dtype``.

    Tile sizes are such that registers suffice (see the tests that compile); they are to be tuned
    on a GPU.

    Args:
        channels: number of channels.
        dtype: float32, bfloat16 or float16, multiplied with float32 sums; or float64, which is
            there to check gradients with.
        precision: of float32 products, "ieee", "tf32x3" or "tf32" (default: "ieee" or "tf32", as
            torch's own setting has it).
        capability: of the device, as in ``sm_80``.
    """
    precision = precision or float32_precision()
    # Products of float32 as they are, and of float64, are not for the tensor cores: every thread
    # holds rows and columns of its own, which larger tiles would spill.
    exact = dtype == torch.float64 or (dtype == torch.float32 and precision == "ieee")
    apart = channels % 4 != 0  # rows are read number by number, each with an address of its own
    narrow = 16 if channels <= 16 else 32
    wide = narrow if channels <= 32 or exact or apart else 64
    constants = {
        "D": channels,
        "BM": 32 if exact else 64,  # pairs
        "BN": 16 if apart else narrow,  # channels where 8 sums are kept
        "BC": wide,  # channels where 4 sums are kept
        "BK": 16 if exact else narrow,  # channels summed over
        "BO": 2 * narrow,  # a tile of the weights' gradients, where 3 sums are kept
        "BI": wide,
        "BP": 16 if exact else 32,  # pairs summed over
        "ROWS": SPLIT_PAIRS,
        "ACC": tl.float64 if dtype == torch.float64 else tl.float32,
        "PRECISION": precision,
        "UPCAST": INTERPRETING and dtype.itemsize == 2,
    }
    # Elsewhere Triton lays the warps of kernels with several products along the 64 pairs, and more
    # than four would do the same work twice.
    spread = exact or capability // 10 in (9, 10)
    return Config(
        constants,
        {
            "num_warps": 8 if spread else 4,
            "num_stages": 2,
            # A fused product and sum would round otherwise with the operands swapped.
            "enable_fp_fusion": False,
        },
    )


def capability(device: torch.device) -> int:
    """That of an NVIDIA GPU, as in ``sm_80``; 0 for others."""
    if device.type != "cuda" or torch.version.hip is not None:
        return 0
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def float32_precision() -> str:
    """ "tf32" if torch may use it for float32 matrix products, else "ieee"."""
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):  # torch >= 2.9; the older names then warn or raise
        return "tf32" if matmul.fp32_precision == "tf32" else "ieee"
    return "tf32" if matmul.allow_tf32 else "ieee"
