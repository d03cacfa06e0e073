"""Tensor attention by the polynomial method: how far off it is, and how time grows with length.

    python -m benchmarks.tensor_attention [--repeats 7] [--out FILE] [--smoke]

Errors are the largest differences from the exact method in float64: 64 queries and keys of each
set, 4 features with uniform entries in [-B, B], normal values, logits divided by 4. Beside them
stand the bounds of :func:`lcm_graph.attention.polynomial_error` for the largest logit and value
that there are. Times are the least of interleaved repeats in float32 on one thread; the exponent is
the slope of log time over log length, over all lengths and over the last two.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import RESULTS, environment, interleaved_seconds, print_table, write_json
from lcm_graph.attention import polynomial_error, tensor_attention

BOUNDS = (0.5, 1.0, 1.5, 2.0)
DEGREES = (2, 4, 6, 8)
LENGTH, FEATURES = 64, 4
SEEDS = 5
DEGREE = 6  # of what is timed
METHODS: dict[str, dict[str, Any]] = {
    "exact": {},
    "strassen": {"form": "strassen"},
    "polynomial": {"method": "polynomial", "degree": DEGREE},
    "polynomial, causal": {"method": "polynomial", "degree": DEGREE, "causal": True},
}
MODES = ("forward", "forward + backward")
LENGTHS: dict[str, Sequence[int]] = {
    "exact": (64, 128, 256, 512),
    "strassen": (64, 128, 256, 512),
    "polynomial": (2048, 4096, 8192, 16_384, 32_768),
    "polynomial, causal": (2048, 4096, 8192),
}

Inputs = tuple[Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]


def draw(bound: float, length: int, seed: int, dtype: torch.dtype) -> Inputs:
    """Queries and keys with entries in [-bound, bound], normal values."""
    generator = torch.Generator().manual_seed(seed)
    shape = (length, FEATURES)
    q, k1, k2 = (
        bound * (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1).to(dtype)
        for _ in range(3)
    )
    v1, v2 = (
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2)
    )
    return q, (k1, k2), (v1, v2)


def error(bound: float, degree: int, seed: int) -> dict[str, float]:
    """Of the polynomial method, and the bounds on it."""
    q, k, v = draw(bound, LENGTH, seed, torch.float64)
    scale = 1 / FEATURES
    exact = tensor_attention(q, k, v, scale=scale)
    found = tensor_attention(q, k, v, scale=scale, method="polynomial", degree=degree)
    largest = float(scale * torch.einsum("ic,jc,kc->ijk", q, *k).abs().max())
    limit = polynomial_error(degree, largest)
    return {
        "out": float((found.out - exact.out).abs().max()),
        "lse": float((found.lse - exact.lse).abs().max()),
        "out_bound": limit.out * float((v[0].abs().amax(0) * v[1].abs().amax(0)).max()),
        "lse_bound": limit.lse,
        "largest_logit": largest,
    }


def errors(seeds: int) -> list[dict[str, float]]:
    """Of each bound and degree: the largest over seeds, and the median of the outputs'."""
    rows = []
    for bound, degree in itertools.product(BOUNDS, DEGREES):
        found = [error(bound, degree, seed) for seed in range(seeds)]
        row = {key: max(one[key] for one in found) for key in found[0]}
        row["out_median"] = float(np.median([one["out"] for one in found]))
        rows.append({"entries": bound, "degree": degree, **row})
    return rows


def call(method: str, mode: str, length: int) -> Callable[[], object]:
    """What is timed."""
    q, k, v = draw(1.0, length, 0, torch.float32)
    tensors = (q, *k, *v)
    if mode == "forward":
        return partial(tensor_attention, q, k, v, **METHODS[method])
    for tensor in tensors:
        tensor.requires_grad_()

    def forward_backward() -> None:
        state = tensor_attention(q, k, v, **METHODS[method])
        torch.autograd.grad(state.out.sum() + state.lse.sum(), tensors)

    return forward_backward


def slope(lengths: Sequence[int], seconds: Sequence[float]) -> float:
    """The exponent with which seconds grow, by least squares of logarithms."""
    return float(np.polyfit(np.log(lengths), np.log(seconds), 1)[0])


def times(lengths: Mapping[str, Sequence[int]], repeats: int) -> list[dict[str, Any]]:
    """Seconds and exponents of each method and mode."""
    cases = {
        f"{method}, {mode}, {length}": (method, mode, length)
        for method in METHODS
        for mode in MODES
        for length in lengths[method]
    }
    found = interleaved_seconds(
        {name: call(*case) for name, case in cases.items()},
        dict.fromkeys(cases, repeats),
        dict.fromkeys(cases, 2),
    )
    rows = []
    for method, mode in itertools.product(METHODS, MODES):
        own = {n: found[f"{method}, {mode}, {n}"] for n in lengths[method]}
        fastest = [own[n]["min"] for n in lengths[method]]  # least disturbed by other work
        rows.append(
            {
                "method": method,
                "mode": mode,
                "seconds": own,
                "exponent": slope(lengths[method], fastest),
                "exponent_of_last_two": slope(lengths[method][-2:], fastest[-2:]),
            }
        )
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tensor_attention",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS / "tensor_attention.json")
    parser.add_argument("--smoke", action="store_true", help="see that it runs: seconds")
    args = parser.parse_args()
    torch.set_num_threads(1)
    seeds, repeats, lengths = SEEDS, args.repeats, LENGTHS
    if args.smoke:
        seeds, repeats = 1, 1
        lengths = {name: [own[0] // 4, own[1] // 4] for name, own in LENGTHS.items()}
    off = errors(seeds)
    print_table(
        ["entries up to", "degree", "error", "median", "bound", "of lse", "bound"],
        [
            [f"{row['entries']:g}", f"{row['degree']:g}"]
            + [f"{row[key]:.1e}" for key in ("out", "out_median", "out_bound", "lse", "lse_bound")]
            for row in off
        ],
    )
    grown = times(lengths, repeats)
    rows = []
    for row in grown:
        first, *_, last = row["seconds"].values()
        rows.append(
            [row["method"], row["mode"], f"{min(row['seconds'])}-{max(row['seconds'])}"]
            + [f"{1e3 * one['min']:.2f} ms" for one in (first, last)]
            + [f"{row[key]:.2f}" for key in ("exponent", "exponent_of_last_two")]
        )
    print_table(["", "mode", "lengths", "first", "last", "exponent", "of last two"], rows)
    result = {
        "environment": environment(f"python -m benchmarks.tensor_attention --repeats {repeats}"),
        "settings": {
            "length": LENGTH,
            "features": FEATURES,
            "seeds": seeds,
            "degree": DEGREE,
            "monomials": math.comb(FEATURES + DEGREE, DEGREE),
        },
        "errors": off,
        "times": grown,
    }
    write_json(args.out, result)


if __name__ == "__main__":
    main()
