"""How far is the tree from a level-by-level fold, and from PyG's where that pads nothing?

    python -m benchmarks.agreement

The reference pairs up the elements of one set after another with a textbook GRU cell
(`tests/references.py`) and leaves the gradient to autograd. Reported are the largest deviations
relative to the largest magnitude: of the values, and of the gradients of elements and parameters
for a random cotangent.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch_geometric.nn import aggr as pyg

from benchmarks.measure import RESULTS, environment, print_table, write_json
from lcm_graph import LCMAggregation, segment_reduce
from lcm_graph.monoids import BinaryGRU
from tests.references import error, fold_sets, gradients, gru_pair, index_of

CHANNELS = 32
SIZES = (*range(34), 2000)
PYG_SIZES = (1, 2, 3, 5, 8, 16, 17, 33, 100)


def against_reference(dtype: torch.dtype, recompute: bool) -> dict[str, Any]:
    """Deviations on shuffled sets of :data:`SIZES`."""
    torch.manual_seed(0)
    monoid = BinaryGRU(CHANNELS).to(dtype)
    index = index_of(SIZES)
    index = index[torch.randperm(len(index))]
    x = torch.randn(len(index), CHANNELS, dtype=dtype, requires_grad=True)
    inputs = [x, *monoid.parameters()]
    states = segment_reduce(monoid, monoid.lift(x), index, recompute=recompute)
    out = monoid.lower(states)
    expected = fold_sets(gru_pair(monoid), x, index, len(SIZES), monoid.empty.unsqueeze(0))
    pairs = zip(gradients(out, inputs), gradients(expected, inputs), strict=True)
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "recompute": recompute,
        "value": error(out, expected),
        "gradient": max(error(ours, theirs) for ours, theirs in pairs),
    }


def against_pyg(project: bool) -> float:
    """Deviation from PyG's LCM with weights from its state_dict, on sets of one size at a time."""
    torch.manual_seed(0)
    theirs = pyg.LCMAggregation(CHANNELS, CHANNELS, project=project)
    ours = LCMAggregation(CHANNELS, CHANNELS, project=project)
    ours.load_state_dict(theirs.state_dict())
    worst = 0.0
    for size in PYG_SIZES:
        index = index_of([size] * 50)
        x = torch.randn(len(index), CHANNELS)
        worst = max(worst, error(ours(x, index), theirs(x, index)))
    return worst


def main() -> None:
    """Measure, print and write ``benchmarks/results/agreement.json``."""
    rows = [
        against_reference(dtype, recompute)
        for dtype, recompute in itertools.product((torch.float32, torch.float64), (True, False))
    ]
    pyg_rows = {f"project={project}": against_pyg(project) for project in (True, False)}
    print(f"Sets of 0 to 33 and of {SIZES[-1]:,}, against a level-by-level fold")
    print_table(
        ["", "value", "gradient"],
        [
            [
                f"{row['dtype']}, {'recomputed' if row['recompute'] else 'by autograd'}",
                f"{row['value']:.1e}",
                f"{row['gradient']:.1e}",
            ]
            for row in rows
        ],
    )
    print(f"\nAgainst PyG's LCM, float32, sets of one size in {PYG_SIZES}")
    print_table(["", "value"], [[name, f"{value:.1e}"] for name, value in pyg_rows.items()])
    result = {
        "environment": environment("python -m benchmarks.agreement"),
        "channels": CHANNELS,
        "sizes": SIZES,
        "reference": rows,
        "pyg": pyg_rows,
    }
    write_json(RESULTS / "agreement.json", result)


if __name__ == "__main__":
    main()
