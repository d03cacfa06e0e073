"""Fold sets with a pointwise operator of your own, written in Triton.

Without a GPU: ``TRITON_INTERPRET=1 python examples/triton_operator.py``.
"""

from __future__ import annotations

import os

import torch
import triton
import triton.language as tl  # noqa: F401  (the interpreter asks for it)

from lcm_graph import FoldPlan
from lcm_graph.kernels.segment.tasks import plan as plan_tasks
from lcm_graph.kernels.segment.triton_reduce import fold


@triton.jit
def complex_product(re_a, im_a, re_b, im_b):  # type: ignore[no-untyped-def]
    """The product of two complex numbers, real and imaginary parts in columns of their own."""
    return re_a * re_b - im_a * im_b, re_a * im_b + im_a * re_b


def main() -> None:
    """Multiply the elements of each set, whatever its size, on the canonical tree."""
    if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
        raise SystemExit("no CUDA device: set TRITON_INTERPRET=1 to interpret the kernels")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    angle = torch.rand(1000, 8, device=device)
    index = torch.randint(0, 5, (1000,), device=device)
    plan = FoldPlan.from_index(index, 6)  # the sixth set is empty: it answers with the identity
    tasks = plan_tasks(plan.ptr, plan.rows)
    re, im = fold([angle.cos(), angle.sin()], tasks, complex_product, identity=[1.0, 0.0])

    expected = torch.zeros(6, 8, device=device).index_add_(0, index, angle)  # rotations add up
    torch.testing.assert_close(re, expected.cos(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(im, expected.sin(), rtol=1e-3, atol=1e-3)
    print(f"{index.numel():,} rotations in {plan.num_sets} sets; largest: {int(plan.sizes.max())}")


if __name__ == "__main__":
    main()
