"""Graphs of the TU collection."""

import numpy as np
import pytest
import torch

from lcm_graph.datasets import FOLDS, load_tu_graphs
from tests.datasets.graphs.archives import write_tu


def test_graphs(tmp_path):
    write_tu(tmp_path, "STARS")
    graphs = load_tu_graphs("STARS", tmp_path)
    assert len(graphs) == 40
    tags = torch.cat([graph.node_tag for graph in graphs])
    assert tags.tolist() == list(range(len(tags)))
    for number, graph in enumerate(graphs):
        assert graph.validate() and graph.is_undirected() and graph.is_coalesced()
        degrees = torch.bincount(graph.edge_index[0], minlength=graph.num_nodes)
        is_star = bool(number % 2)
        assert graph.y.tolist() == [int(is_star)]
        expected = [graph.num_nodes - 1] + [1] * (graph.num_nodes - 1)
        assert degrees.tolist() == (expected if is_star else [2] * graph.num_nodes)
        assert graph.fold == (number // 2 % FOLDS if number else -1)


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"MUTAG.npz does not exist .*folder that holds"):
        load_tu_graphs("MUTAG", tmp_path)


@pytest.mark.parametrize("folder", ["STARS", "STARS/raw"])
def test_the_collections_own_files(tmp_path, folder):
    """The same graphs, as text, with folds that are dealt out."""
    pytest.importorskip("sklearn")
    write_tu(tmp_path, "STARS")
    expected = load_tu_graphs("STARS", tmp_path)
    with np.load(tmp_path / "STARS.npz") as archive:
        arrays = dict(archive)
    (tmp_path / "STARS.npz").unlink()
    text = tmp_path / folder
    text.mkdir(parents=True)
    sizes = arrays["num_nodes"]
    graph_of = np.repeat(np.arange(1, len(sizes) + 1), sizes)
    for name, rows in (
        ("A", arrays["edge_index"].T + 1),
        ("graph_indicator", graph_of),
        ("graph_labels", arrays["y"]),
        ("node_labels", arrays["node_tag"]),
    ):
        np.savetxt(text / f"STARS_{name}.txt", rows, fmt="%d", delimiter=", ")
    found = load_tu_graphs("STARS", tmp_path)
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.equal(mine.edge_index, theirs.edge_index)
        assert torch.equal(mine.node_tag, theirs.node_tag) and torch.equal(mine.y, theirs.y)
    folds = torch.tensor([[graph.fold, int(graph.y)] for graph in found])
    assert all(
        torch.equal(folds[folds[:, 0] == f, 1].bincount(), torch.tensor([2, 2])) for f in range(10)
    )
    again = load_tu_graphs("STARS", tmp_path)
    assert [graph.fold for graph in again] == [graph.fold for graph in found]
    (text / "STARS_node_labels.txt").unlink()
    assert all((graph.node_tag == 0).all() for graph in load_tu_graphs("STARS", tmp_path))
    (text / "STARS_A.txt").write_text("1, 2\n0, 3\n")
    with pytest.raises(ValueError, match=r"STARS_A.txt must have pairs of nodes from 1 to"):
        load_tu_graphs("STARS", tmp_path)
    (text / "STARS_graph_labels.txt").write_text("1\nx\n")
    with pytest.raises(ValueError, match=r"STARS_graph_labels.txt is damaged"):
        load_tu_graphs("STARS", tmp_path)
