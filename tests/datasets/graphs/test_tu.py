"""Graphs of the TU collection."""

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
