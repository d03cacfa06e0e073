"""The bits of a set depend on that set alone, and nowhere are addresses short."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lcm_graph.kernels.segment import triton_closed_forms as kernels
from lcm_graph.kernels.segment.backward import sum_backward
from lcm_graph.kernels.segment.tasks import Segments, plan, transpose
from tests.kernels.segment.batches import batch, gather
from tests.references import ptr_of

Reduction = Callable[[Tensor, Segments], Tensor]
REDUCTIONS: dict[str, Reduction] = {
    "sum": kernels.segment_sum,
    "moments": lambda x, segments: kernels.segment_moments(x, segments)[2],
    "logsumexp": kernels.segment_logsumexp,
}


@pytest.mark.parametrize("reduction", REDUCTIONS.values(), ids=REDUCTIONS)
def test_a_set_alone_and_in_a_batch(reduction: Reduction) -> None:
    sizes = [3, 0, 70, 12, 1, 5, 300]
    x = torch.randn(sum(sizes), 3)
    together = reduction(x, plan(ptr_of(sizes)))
    for s, elements in enumerate(x.split(sizes)):
        alone = reduction(elements, plan(ptr_of([sizes[s]])))
        assert torch.equal(alone[0], together[s])


@pytest.mark.parametrize("reduction", REDUCTIONS.values(), ids=REDUCTIONS)
def test_repeatable(reduction: Reduction) -> None:
    x, segments = torch.randn(150, 3), batch([7, 140, 3])
    assert torch.equal(reduction(x, segments), reduction(x, segments))


def test_gradient_of_repeated_rows_is_repeatable() -> None:
    segments = gather([40, 100, 3], rows=4)
    grad = torch.randn(3, 3)
    first, second = (sum_backward(grad, transpose(segments, 4)) for _ in range(2))
    assert torch.equal(first, second)


def test_elements_beyond_32_bits() -> None:
    """Offsets of a tensor of more than 2**31 numbers, whose pages are never touched otherwise."""
    rows = 2**31 // 64 + 4
    x = torch.zeros(1).new_zeros(0).half().resize_(rows, 64)
    last = torch.randn(4, 64).half()
    x[-4:] = last
    segments = plan(ptr_of([3, 1]), torch.arange(rows - 4, rows))
    out = kernels.segment_sum(x, segments, torch.float32)
    wide = last.float()
    assert torch.equal(out, torch.stack([wide[0] + wide[1] + wide[2], wide[3]]))
