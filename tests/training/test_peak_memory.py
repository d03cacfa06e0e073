"""Peaks of memory, measured."""

from pathlib import Path

import pytest
import torch

from lcm_graph.training import peak_memory


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs /proc")
def test_what_is_freed_again_counts_and_what_was_there_does_not():
    there = torch.ones(40 * 2**20)  # 160 MiB
    with peak_memory() as first:
        more = torch.ones(25 * 2**20)  # 100 MiB
        del more
    with peak_memory() as second:
        torch.ones(2**20)
    assert 95 < first.growth / 2**20 < 140
    assert second.growth / 2**20 < 50
    assert there.sum() > 0
