"""Time of attention against the length of the context.

    python -m benchmarks.long_attention [--longest 32768] [--device cuda] [--parts …] [--smoke]

"prefill": n queries to n keys of the same 64 planted clusters, by torch's
scaled_dot_product_attention and by HyperAttention, causal or not, with their gradients or without.
"decode": 16 queries near four of the clusters, to a context of n keys, by torch's and by looking
into a tenth of it, with summaries of the rest; clusters of 20 keys, and looked for through clusters
of 400; building the index stands apart. One head of 64 features, float32 on CPU, bfloat16 on CUDA.
Medians of interleaved repeats; the exponent is the slope of log time over log length, of the longer
half of the lengths. Beside the times, how far each answer is from torch's, relative to it.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import RESULTS, environment, interleaved_seconds, print_table, write_json
from lcm_graph.attention.selective import (
    KeyIndex,
    centroid_scores,
    hierarchical_clusters,
    hyper_attention,
    selective_attention,
    top_fraction,
)

D, QUERIES, CLUSTERS = 64, 16, 64
BLOCK = SAMPLES = 256
KEPT = 0.1
PARTS = ("prefill", "decode")

Call = Callable[[], Tensor | None]  # an answer, if it is not a gradient that is timed


def draw(
    n: int, queries: int, near: int, device: str, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Keys of planted clusters and queries near some of these, one head."""
    torch.manual_seed(0)
    centres, means = torch.randn(CLUSTERS, D), torch.randn(CLUSTERS, D)
    labels = torch.randint(0, CLUSTERS, (n,))
    k = centres[labels] + 0.5 * torch.randn(n, D)
    q = 0.6 * centres[torch.arange(queries) % near] + 0.5 * torch.randn(queries, D)
    v = means[labels] + 0.5 * torch.randn(n, D)
    q, k, v = (t[None, None].to(device, dtype) for t in (q, k, v))
    return q, k, v


def synchronized(call: Call, device: str) -> Call:
    """The same, done when it returns."""
    if device == "cpu":
        return call

    def waited() -> Tensor | None:
        result = call()
        torch.cuda.synchronize()
        return result

    return waited


def prefill(n: int, device: str, dtype: torch.dtype) -> dict[str, Call]:
    """n queries to n keys."""
    q, k, v = draw(n, n, CLUSTERS, device, dtype)

    def sdpa(causal: bool) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)

    def hyper(causal: bool) -> Tensor:
        return hyper_attention(q, k, v, block_size=BLOCK, samples=SAMPLES, causal=causal).out

    def with_gradient(attention: Callable[[bool], Tensor], causal: bool) -> None:
        for tensor in (q, k, v):
            tensor.requires_grad_()
            tensor.grad = None
        with torch.enable_grad():
            attention(causal).sum().backward()
        for tensor in (q, k, v):
            tensor.requires_grad_(False)

    calls: dict[str, Call] = {}
    for causal in (False, True):
        kind = "causal" if causal else "all"
        for name, attention in (("sdpa", sdpa), ("hyper", hyper)):
            calls[f"{name}, {kind}"] = partial(attention, causal)
            calls[f"{name}, {kind}, gradient"] = partial(with_gradient, attention, causal)
    return {name: synchronized(call, device) for name, call in calls.items()}


def decode(n: int, device: str, dtype: torch.dtype) -> tuple[dict[str, Call], float]:
    """A few queries to n keys that have been indexed, and how long that took."""
    q, k, v = draw(n, QUERIES, 4, device, dtype)
    began = time.perf_counter()
    index = KeyIndex.build(k, v, clusters=0.05, coarse=0.0025)
    building = time.perf_counter() - began

    def flat() -> Tensor:
        scores = centroid_scores(q, index)
        kept = top_fraction(scores, KEPT, index.summary.size)
        return selective_attention(q, index, clusters=kept).out

    def deep() -> Tensor:
        kept, _ = hierarchical_clusters(q, index, KEPT, coarse_fraction=2 * KEPT)
        return selective_attention(q, index, clusters=kept).out

    calls: dict[str, Call] = {
        "sdpa": lambda: F.scaled_dot_product_attention(q, k, v),
        "clusters": flat,
        "hierarchy": deep,
    }
    return {name: synchronized(call, device) for name, call in calls.items()}, building


def errors(calls: dict[str, Call]) -> dict[str, float]:
    """Of each answer that is not torch's own, relative to torch's of the same kind."""
    answers = {name: answer for name, call in calls.items() if (answer := call()) is not None}
    found = {}
    for name, answer in answers.items():
        reference = answers[name.replace(name.split(",")[0], "sdpa", 1)].float()
        if not name.startswith("sdpa"):
            found[name] = float((answer.float() - reference).norm() / reference.norm())
    return found


def exponent(seconds: dict[int, float]) -> float:
    """Of the longer half of the lengths."""
    lengths = sorted(seconds)[len(seconds) // 2 :]
    if len(lengths) < 2:
        return math.nan
    times = [math.log(seconds[n]) for n in lengths]
    return float(np.polyfit([math.log(n) for n in lengths], times, 1)[0])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.long_attention",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--longest", type=int, default=32_768)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--parts", nargs="+", default=PARTS, choices=PARTS,
        help="the index of decode is built on the CPU, in time that grows with n²",
    )  # fmt: skip
    parser.add_argument("--smoke", action="store_true", help="see that it runs: seconds")
    args = parser.parse_args()
    lengths = [n for n in (1024 << power for power in range(12)) if n <= args.longest]
    if args.smoke:
        lengths, args.repeats = [512, 1024], 1
    dtype = torch.float32 if args.device == "cpu" else torch.bfloat16
    found: dict[str, dict[str, dict[int, float]]] = {part: {} for part in args.parts}
    wrong: dict[str, dict[int, float]] = {}
    building: dict[int, float] = {}
    if "decode" in args.parts:
        decode(lengths[0], args.device, dtype)  # what the first index imports is not its time
    for n in lengths:
        with torch.no_grad():
            for kind in args.parts:
                if kind == "prefill":
                    calls = prefill(n, args.device, dtype)
                else:
                    calls, building[n] = decode(n, args.device, dtype)
                for name, error in errors(calls).items():
                    wrong.setdefault(name, {})[n] = error
                repeats = dict.fromkeys(calls, args.repeats)
                timed = interleaved_seconds(calls, repeats, dict.fromkeys(calls, 1))
                for name, one in timed.items():
                    found[kind].setdefault(name, {})[n] = one["median"]
    exponents: dict[str, dict[str, float]] = {
        kind: {name: exponent(seconds) for name, seconds in by.items()}
        for kind, by in found.items()
    }
    for kind, by in found.items():
        rows = [
            [name, *(f"{1e3 * seconds[n]:,.1f}" for n in lengths), f"{exponents[kind][name]:.2f}"]
            for name, seconds in by.items()
        ]
        if kind == "decode":
            rows.append(["building", *(f"{1e3 * building[n]:,.0f}" for n in lengths), ""])
        print_table([f"{kind}, ms", *(f"{n:,}" for n in lengths), "exponent"], rows)
    print_table(
        ["error", *(f"{n:,}" for n in lengths)],
        [[name, *(f"{by[n]:.3f}" for n in lengths)] for name, by in wrong.items()],
    )
    if args.smoke:
        return
    result: dict[str, Any] = {
        "environment": environment(
            f"python -m benchmarks.long_attention --longest {args.longest} --device {args.device} "
            f"--parts {' '.join(args.parts)}"
        ),
        "settings": {"features": D, "block": BLOCK, "samples": SAMPLES, "kept": KEPT,
                     "queries": QUERIES, "dtype": str(dtype)},
        "seconds": found,
        "building_seconds": building,
        "errors": wrong,
        "exponents": exponents,
    }  # fmt: skip
    suffix = "" if args.device == "cpu" else f"_{args.device}"
    write_json(RESULTS / f"long_attention{suffix}.json", result)


if __name__ == "__main__":
    main()
