"""The multitask graphs: drawn here, and the benchmark's own."""

import itertools
import os
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lcm_graph.datasets import (
    GRAPH_LABELS,
    MULTITASK_COUNTS,
    MULTITASK_SIZES,
    NODE_LABELS,
    load_multitask_graphs,
    multitask_graphs,
)
from lcm_graph.datasets.graphs.graph_labels import graph_labels, node_labels
from lcm_graph.datasets.graphs.multitask_graphs import MULTITASK_FILE

stats = pytest.importorskip("scipy.stats", reason="the extra 'graphs' is not installed")


def adjacency_of(graph):
    adjacency = np.zeros((graph.num_nodes, graph.num_nodes), dtype=bool)
    adjacency[tuple(graph.edge_index.numpy())] = True
    return adjacency


def relabelled(graph):
    adjacency = adjacency_of(graph)
    values, source = graph.x[:, 1].double().numpy(), int(graph.x[:, 0].argmax())
    return node_labels(adjacency, values, source), graph_labels(adjacency)


def test_graphs():
    graphs = multitask_graphs([5, 16], 3, seed=7)
    assert [graph.num_nodes for graph in graphs] == [5, 5, 5, 16, 16, 16]
    for graph in graphs:
        assert graph.is_undirected() and not graph.has_isolated_nodes()
        assert graph.x[:, 0].sum() == 1 and set(graph.x[:, 0].tolist()) == {0, 1}
        assert 0 <= graph.x[:, 1].min() and graph.x[:, 1].max() < 1
        of_nodes, of_graph = relabelled(graph)
        np.testing.assert_allclose(graph.y, of_nodes, atol=1e-5)
        np.testing.assert_allclose(graph.graph_y[0], of_graph, atol=1e-5)
    assert graphs[0].y.dtype == graphs[0].graph_y.dtype == graphs[0].x.dtype == torch.float32


def test_a_graph_hangs_on_seed_size_and_number():
    (few,), many = multitask_graphs([9], 1, seed=3), multitask_graphs([8, 9], 2, seed=3)
    assert torch.equal(few.x, many[2].x) and torch.equal(few.edge_index, many[2].edge_index)
    assert not torch.equal(few.x, many[3].x)
    assert not torch.equal(few.x, multitask_graphs([9], 1, seed=4)[0].x)


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match=r"seed must not be negative \(got -1\)"):
        multitask_graphs([8], 1, seed=-1)
    with pytest.raises(ValueError, match=r"num_nodes must be at least 4 \(got 2\)"):
        multitask_graphs([2], 1, seed=0)
    with pytest.raises(FileNotFoundError, match=r"the folder that holds .*multitask_graphs"):
        load_multitask_graphs(tmp_path)
    (tmp_path / MULTITASK_FILE).write_bytes(b"no archive")
    with pytest.raises(ValueError, match="is damaged, or is something else"):
        load_multitask_graphs(tmp_path)
    np.savez(tmp_path / MULTITASK_FILE, train_x=np.zeros(3))
    with pytest.raises(ValueError, match="is damaged, or is something else"):
        load_multitask_graphs(tmp_path)


def test_archive(tmp_path):
    """What is written end to end is read graph by graph."""
    graphs = multitask_graphs([5, 7], 2, seed=1)
    arrays = {
        "edge_index": np.concatenate([graph.edge_index for graph in graphs], 1).astype(np.uint8),
        "num_nodes": np.array([graph.num_nodes for graph in graphs], dtype=np.int16),
        "num_edges": np.array([graph.num_edges for graph in graphs], dtype=np.int16),
        "x": np.concatenate([graph.x for graph in graphs]),
        "node_y": np.concatenate([graph.y for graph in graphs]),
        "graph_y": np.concatenate([graph.graph_y for graph in graphs]),
    }
    splits: dict[str, Any] = {
        f"{split}_{key}": array
        for split in ("train", "val", "test")
        for key, array in arrays.items()
    }
    np.savez(tmp_path / MULTITASK_FILE, **splits)
    loaded = load_multitask_graphs(tmp_path)
    assert list(loaded) == ["train", "valid", "test"]
    for split in loaded.values():
        for graph, expected in zip(split, graphs, strict=True):
            for key in ("x", "edge_index", "y", "graph_y"):
                assert torch.equal(graph[key], expected[key])


@pytest.fixture(scope="module")
def theirs():
    if "LCM_DATA" not in os.environ:
        pytest.skip("LCM_DATA, a folder of data sets, is not set")
    root = Path(os.environ["LCM_DATA"], "pna_multitask")
    if not root.is_dir():
        pytest.skip(f"there is no {root}")
    return load_multitask_graphs(root)


def test_the_benchmark_s_own(theirs):
    for split, graphs in theirs.items():
        sizes = [graph.num_nodes for graph in graphs]
        expected = [n for n in MULTITASK_SIZES[split] for _ in range(MULTITASK_COUNTS[split])]
        assert sizes == expected


def test_labels_are_the_benchmark_s(theirs):
    for graph in theirs["test"][::10]:
        of_nodes, of_graph = relabelled(graph)
        np.testing.assert_allclose(graph.y, of_nodes, atol=1e-5)
        np.testing.assert_allclose(graph.graph_y[0], of_graph, atol=1e-5)


def test_the_distribution_is_the_benchmark_s(theirs):
    """Two-sample Kolmogorov-Smirnov tests of what a graph has and is labelled with."""
    drawn = multitask_graphs(MULTITASK_SIZES["train"], 64, seed=11)
    mine, other = (
        np.stack([_statistics(graph) for graph in graphs]) for graphs in (drawn, theirs["train"])
    )
    names = ("edges", "largest degree", *GRAPH_LABELS, *NODE_LABELS)
    p_values = {
        name: stats.ks_2samp(mine[:, i], other[:, i]).pvalue for i, name in enumerate(names)
    }
    assert min(p_values.values()) > 0.01, p_values


def _statistics(graph):
    degrees = torch.bincount(graph.edge_index[0])
    means = graph.y.abs().mean(0)
    return np.array([graph.num_edges, degrees.max(), *graph.graph_y[0], *means], dtype=float)


def test_splits_share_no_graph():
    """Drawn by the example as it draws them: with seeds of their own."""
    example = runpy.run_path(str(Path(__file__).parents[3] / "examples" / "pna_multitask.py"))
    graphs = example["load"](None, [20], 2, 64)
    seen = {name: {graph.x.numpy().tobytes() for graph in some} for name, some in graphs.items()}
    assert set(seen) == {"train", "valid", "test", "20-24"} and all(seen.values())
    for one, other in itertools.combinations(seen.values(), 2):
        assert not one & other
