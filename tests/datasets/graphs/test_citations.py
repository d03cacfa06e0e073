"""Citation graphs, read as they were published."""

import gzip
import os
import pickle
from pathlib import Path

import pytest
import torch

from lcm_graph.datasets import load_citations
from tests.datasets.graphs.archives import write_arxiv, write_planetoid


def test_planetoid(tmp_path):
    write_planetoid(tmp_path, "Cora", num_nodes=700)
    before = sorted(tmp_path.rglob("*"))
    data, split = load_citations("Cora", tmp_path)
    assert sorted(tmp_path.rglob("*")) == before  # nothing is written
    assert data.validate() and data.is_undirected() and data.x.dtype == torch.float32
    assert data.x.argmax(1).equal(data.y)  # as it was written
    target, source = data.edge_index  # a ring
    assert data.num_edges == 1400 and ((target - source) % 700).unique().tolist() == [1, 699]
    assert {name: len(nodes) for name, nodes in split.items()} == {
        "train": 30,
        "valid": 500,
        "test": 100,
    }
    assert split["test"].min() == 600


def test_arxiv(tmp_path):
    write_arxiv(tmp_path, num_nodes=50)
    data, split = load_citations("ogbn-arxiv", tmp_path)
    assert data.validate() and data.is_undirected() and data.x.shape == (50, 4)
    assert data.x.argmax(1).equal(data.y % 4) and data.edge_index.unique(dim=1).shape == (2, 98)
    assert torch.cat(list(split.values())).sort().values.equal(torch.arange(50))


def test_missing_or_damaged(tmp_path):
    with pytest.raises(ValueError, match=r"name must be one of Cora, .*\(got 'cora'\)"):
        load_citations("cora", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"edge.csv.gz does not exist .*holds ogbn_arxiv"):
        load_citations("ogbn-arxiv", tmp_path)
    write_arxiv(tmp_path, num_nodes=50)
    with gzip.open(tmp_path / "ogbn_arxiv/raw/node-label.csv.gz", "at") as file:
        file.write("0\n")
    with pytest.raises(ValueError, match="features of 50 nodes and labels of 51"):
        load_citations("ogbn-arxiv", tmp_path)
    write_planetoid(tmp_path, "CiteSeer", num_nodes=700)
    (tmp_path / "CiteSeer/raw/ind.citeseer.graph").write_bytes(pickle.dumps(7)[:-1])
    with pytest.raises(ValueError, match="CiteSeer is damaged, or is something else"):
        load_citations("CiteSeer", tmp_path)


@pytest.mark.skipif("LCM_DATA" not in os.environ, reason="LCM_DATA is not set: holds planetoid/")
@pytest.mark.parametrize(
    ("name", "nodes", "features", "classes"), [("Cora", 2708, 1433, 7), ("CiteSeer", 3327, 3703, 6)]
)
def test_real_ones(name, nodes, features, classes):
    data, split = load_citations(name, Path(os.environ["LCM_DATA"], "planetoid"))
    assert data.x.shape == (nodes, features) and int(data.y.max()) + 1 == classes
    assert [len(mine) for mine in split.values()] == [20 * classes, 500, 1000]
