"""Partitions, scores, budgets and tails, each against what it should be."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lcm_graph.attention import attend
from lcm_graph.attention.selective import (
    BlockBudget,
    KeyIndex,
    calibrate,
    centroid_scores,
    effective_rank,
    entropy_budgets,
    global_threshold,
    hierarchical_clusters,
    hyper_attention,
    matrix_entropy,
    observation_scores,
    redundancy_scores,
    selective_attention,
    summary_entropy,
    tokens_of_heads,
    top_fraction,
    top_tokens,
    truncation,
)
from lcm_graph.attention.selective.hyper import _places, _within_blocks
from lcm_graph.attention.selective.key_index import summarize, summarize_tokens
from lcm_graph.attention.selective.partition import contiguous_blocks, hash_buckets, kmeans
from lcm_graph.attention.states import ClusterState, ClusterSummary
from lcm_graph.reduce import segment_reduce
from tests.references import error

D = 8


def planted(clusters: int, each: int, width: float = 0.1) -> tuple[Tensor, Tensor, Tensor]:
    """Keys in well-separated clusters, values alike within them, and the clusters."""
    centres = 3 * torch.nn.functional.normalize(
        torch.randn(clusters, D, dtype=torch.float64), dim=1
    )
    labels = torch.arange(clusters).repeat_interleave(each)
    k = centres[labels] + width * torch.randn(len(labels), D, dtype=torch.float64)
    v = torch.randn(clusters, 3, dtype=torch.float64)[labels]
    v = v + width * torch.randn(len(labels), 3, dtype=torch.float64)
    return k[None, None], v[None, None], labels


def test_kmeans_finds_planted_clusters() -> None:
    k, _, labels = planted(5, 20)
    found = kmeans(k, 5)[0, 0]
    same = labels.unsqueeze(0) == labels.unsqueeze(1)
    assert torch.equal(found.unsqueeze(0) == found.unsqueeze(1), same)
    assert kmeans(k[:, :, :3], 10).max() <= 2  # no more clusters than keys
    assert kmeans(k[:, :, :0], 4).shape == (1, 1, 0)
    assert kmeans(torch.ones(1, 1, 7, D), 4).max() == 0


def test_blocks_and_hashes() -> None:
    assert contiguous_blocks(7, 3).tolist() == [0, 0, 0, 1, 1, 1, 2]
    x = torch.randn(2, 500, D)
    directions = torch.randn(D, 4)
    buckets = hash_buckets(x, directions)
    signs = x @ directions > 0
    for number in range(16):
        gray = number ^ (number >> 1)
        bits = torch.tensor([bool(gray >> (3 - place) & 1) for place in range(4)])
        assert torch.equal(buckets == number, (signs == bits).all(-1))


def test_summaries_are_sums() -> None:
    k, v = torch.randn(2, 3, 40, D), torch.randn(2, 3, 40, 5)
    index = KeyIndex.build(k, v, clusters=0.1, coarse=2, order=2)
    assert index.summary.size.shape == (2, 3, 4) and index.levels[1].summary.size.shape == (2, 3, 2)
    for batch in range(2):
        for head in range(3):
            for cluster in range(4):
                mine = index.labels[batch, head] == cluster
                keys, values = k[batch, head][mine], v[batch, head][mine]
                assert index.summary.size[batch, head, cluster] == mine.sum()
                assert error(index.summary.keys[batch, head, cluster], keys.sum(0)) <= 1e-5
                assert error(index.summary.values[batch, head, cluster], values.sum(0)) <= 1e-5
    for level in index.levels:
        assert (level.summary.size.sum(-1) == 40).all()
        assert error(level.summary.keys.sum(2), k.sum(2)) <= 1e-5


def test_centroid_scores() -> None:
    """Looped: each cluster's share of the weights, a key's part of it."""
    q, k, v = torch.randn(1, 4, 6, D), torch.randn(1, 2, 30, D), torch.randn(1, 2, 30, 3)
    labels = torch.arange(30) % 5
    labels[labels == 3] = 4  # one is empty
    index = KeyIndex.build(k, v, partition=labels)
    found = centroid_scores(q, index)
    for head in range(2):
        shares = []
        for query in q[0, 2 * head : 2 * head + 2].reshape(-1, D):
            weight = torch.zeros(5)
            for cluster in labels.unique().tolist():
                mean = k[0, head][labels == cluster].mean(0)
                weight[cluster] = (query @ mean / D**0.5).exp()
            sizes = torch.bincount(labels, minlength=5)
            shares.append(weight / (weight * sizes).sum())
        expected = torch.stack(shares).mean(0)
        there = [0, 1, 2, 4]
        assert error(found[0, head, there], expected[there]) <= 1e-5
        assert found[0, head, 3] == -math.inf


def test_scores_that_are_no_numbers_are_refused() -> None:
    """Instead of choosing nothing without a word."""
    k = torch.randn(1, 1, 9, D)
    index = KeyIndex.build(k, k, partition=torch.zeros(9).long())
    with pytest.raises(ValueError, match="a score is NaN"):
        centroid_scores(torch.full((1, 1, 1, D), math.nan), index)
    with pytest.raises(ValueError, match="got NaN"):
        global_threshold([torch.tensor([math.nan])], [torch.ones(1)], 0.5)
    with pytest.raises(ValueError, match="finite to be clustered"):
        KeyIndex.build(torch.full((1, 1, 9, D), math.inf), k)


def test_observation_scores() -> None:
    q, k = torch.randn(1, 4, 3, D), torch.randn(1, 2, 20, D)
    mass = (q.unflatten(1, (2, 2)) @ k.unsqueeze(2).mT / D**0.5).softmax(-1).sum((2, 3))
    assert error(observation_scores(q, k, pool=1), mass) <= 1e-5
    smooth = observation_scores(q, k, pool=3)
    assert error(smooth[..., 5], mass[..., 4:7].mean(-1)) <= 1e-5


def test_observing_queries_see_what_lies_before_them() -> None:
    """Against a mask written down, with two heads of queries to one of keys."""
    q, k = torch.randn(1, 4, 3, D), torch.randn(1, 2, 20, D)
    logits = q.unflatten(1, (2, 2)) @ k.unsqueeze(2).mT / D**0.5
    hidden = torch.arange(20) > torch.arange(17, 20).unsqueeze(1)
    mass = logits.masked_fill(hidden, -math.inf).softmax(-1).sum((2, 3))
    assert error(observation_scores(q, k, pool=1, causal=True), mass) <= 1e-5
    one = observation_scores(q[:, :, :1], k[:, :, :1], pool=1, causal=True)
    assert torch.equal(one, torch.full((1, 2, 1), 2.0))
    with pytest.raises(ValueError, match=r"no more causal queries .* \(got 3 for 2\)"):
        observation_scores(q, k[:, :, :2], causal=True)


@given(st.integers(0, 2**31), st.floats(0, 1))
def test_fractions(seed: int, fraction: float) -> None:
    """The best clusters, as few as reach the fraction."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(1, 2, 7, generator=generator)
    sizes = torch.randint(0, 5, (1, 2, 7), generator=generator)
    kept = top_fraction(scores, fraction, sizes)
    for head in range(2):
        mine, size = kept[0, head], sizes[0, head]
        total = int(size[mine].sum())
        assert total >= fraction * size.sum() - 0.5 - 1e-4
        if mine.any():
            least = scores[0, head][mine].min()
            assert not (scores[0, head][~mine] > least).any()
            last = size[mine & (scores[0, head] == least)].sum()
            assert total - last < fraction * size.sum() - 0.5 + 1e-4


def test_budgets_of_tokens() -> None:
    scores = torch.rand(2, 3, 10)
    kept = top_tokens(scores, torch.tensor([0, 4, 10]))
    assert kept.sum(-1).tolist() == [[0, 4, 10], [0, 4, 10]]
    assert torch.equal(kept[1, 1], scores[1, 1] >= scores[1, 1].sort().values[-4])


def test_one_threshold_for_all_heads() -> None:
    """Its fraction is of all tokens; a head that is spread out keeps more."""
    scores = [torch.rand(1, 2, 50), 3 * torch.rand(1, 2, 50)]
    sizes = [torch.randint(0, 9, (1, 2, 50)) for _ in range(2)]
    threshold = global_threshold(scores, sizes, 0.3)
    total = sum(int(size.sum()) for size in sizes)
    kept = sum(
        int(size[score > threshold].sum()) for score, size in zip(scores, sizes, strict=True)
    )
    assert 0.3 * total <= kept <= 0.3 * total + 9
    assert global_threshold(scores, sizes, 1.0) == -math.inf
    assert global_threshold(scores, sizes, 0.0) == math.inf


def test_hierarchies_look_at_fewer_centroids(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as they say, counted where they are; and find a needle that a flat search finds."""
    asked: list[int] = []
    original = ClusterSummary.logits

    def counted(monoid: ClusterSummary, state: ClusterState, *rest: Any) -> Tensor:
        asked.append(state.size.size(-1))
        return original(monoid, state, *rest)

    monkeypatch.setattr(ClusterSummary, "logits", counted)
    k, v, labels = planted(16, 12)
    q = k[:, :, 12 * 5 : 12 * 5 + 1] * 4  # asks for cluster 5
    index = KeyIndex.build(k, v, clusters=16, coarse=4)
    kept, looked = hierarchical_clusters(q, index, 0.05, coarse_fraction=0.25)
    assert index.tokens(kept)[0, 0][labels == 5].all()
    assert int(looked) == sum(asked) < 16
    everywhere, all_of_them = hierarchical_clusters(q, index, 0.05, coarse_fraction=1.0)
    flat = top_fraction(centroid_scores(q, index), 0.05, index.summary.size)
    assert torch.equal(everywhere, flat) and int(all_of_them) == 16 + 4
    nothing, of_coarse = hierarchical_clusters(q, index, 0.05, coarse_fraction=0.0)
    assert not nothing.any() and int(of_coarse) == 4
    with pytest.raises(ValueError, match="two levels"):
        hierarchical_clusters(q, KeyIndex.build(k, v, clusters=4), 0.1, coarse_fraction=1)


@pytest.mark.parametrize("order", [1, 2])
def test_summaries_stand_for_what_is_left_out(order: int) -> None:
    """On planted clusters the summarised tail errs far less than the dropped one."""
    k, v, labels = planted(8, 25, width=0.15)
    q = torch.randn(1, 1, 20, D, dtype=torch.float64)
    expected = attend(q, k, v).out
    index = KeyIndex.build(k, v, partition=labels, order=order)
    kept = top_fraction(centroid_scores(q, index), 0.25, index.summary.size)
    errors = {
        tail: float((selective_attention(q, index, clusters=kept, tail=tail).out - expected).norm())
        for tail in ("drop", "summary")
    }
    assert errors["summary"] < errors["drop"] / (8 if order == 1 else 50)


def test_the_rest_of_clusters_that_are_kept_in_part() -> None:
    k, v, labels = planted(4, 10)
    q = torch.randn(1, 1, 3, D, dtype=torch.float64)
    index = KeyIndex.build(k, v, partition=labels)
    kept = torch.rand(1, 1, 40) > 0.6
    found = selective_attention(q, index, tokens=kept)
    states = [attend(q, k[:, :, kept[0, 0]], v[:, :, kept[0, 0]])]
    weights, values = [states[0].lse], [states[0].out]
    for cluster in range(4):
        rest = (labels == cluster) & ~kept[0, 0]
        mean_k, mean_v = k[0, 0][rest].mean(0), v[0, 0][rest].mean(0)
        weights.append((q @ mean_k) / D**0.5 + math.log(int(rest.sum())))
        values.append(mean_v.expand(1, 1, 3, 3))
    share = torch.stack(weights).softmax(0).unsqueeze(-1)
    assert error(found.out, (share * torch.stack(values)).sum(0)) <= 1e-10


def test_sampled_tails_are_unbiased() -> None:
    """Above and below the line: the means over many draws, within four standard errors."""
    k, v, labels = planted(4, 10, width=0.5)
    q = torch.randn(1, 1, 2, D, dtype=torch.float64)
    index = KeyIndex.build(k, v, partition=labels)
    kept = torch.zeros(1, 1, 40, dtype=torch.bool)
    kept[..., :7] = True
    expected = attend(q, k, v)
    sums = []
    generator = torch.Generator().manual_seed(0)
    for _ in range(600):
        state = selective_attention(
            q, index, tokens=kept, tail="sample", samples=8, generator=generator
        )
        weight = state.lse.exp().unsqueeze(-1)
        sums.append(torch.cat([weight, weight * state.out], -1))
    total = expected.lse.exp().unsqueeze(-1)
    target = torch.cat([total, total * expected.out], -1)
    found = torch.stack(sums)
    assert ((found.mean(0) - target).abs() <= 4 * found.std(0) / 600**0.5 + 1e-12).all()


def test_hyper_attention_is_unbiased_and_masks_what_is_no_key() -> None:
    """With numbers that blocks do not divide; a query's own block counts once."""
    q, k, v = (torch.randn(1, 2, n, D, dtype=torch.float64) for n in (11, 23, 23))
    expected = attend(q, k, v)
    generator = torch.Generator().manual_seed(0)
    sums = []
    for _ in range(600):
        state = hyper_attention(q, k, v, block_size=6, samples=16, generator=generator)
        weight = state.lse.exp().unsqueeze(-1)
        sums.append(torch.cat([weight, weight * state.out], -1))
    total = expected.lse.exp().unsqueeze(-1)
    target = torch.cat([total, total * expected.out], -1)
    found = torch.stack(sums)
    assert ((found.mean(0) - target).abs() <= 4.5 * found.std(0) / 600**0.5).all()


@pytest.mark.parametrize(("n", "m", "size"), [(64, 400, 40), (7, 90, 9), (90, 7, 9), (50, 50, 8)])
def test_blocks_of_queries_and_keys_lie_at_the_same_quantiles(n: int, m: int, size: int) -> None:
    """And every block of keys is reached that has a block of queries: those of one direction."""
    angle_q, angle_k = torch.linspace(0, 1, n).double(), torch.linspace(0, 1, m).double()
    blocks = -(-max(n, m) // size)
    places = [_places(count, blocks, torch.device("cpu")) for count in (n, m)]
    assert all(len(set(at.tolist())) == len(at) for at in places)
    v = torch.eye(m, dtype=torch.float64)[None, None]
    q, k = (angle.view(1, 1, -1, 1) for angle in (angle_q, angle_k))
    state = _within_blocks(q, k, v, blocks, 1.0)
    for token in range(n):
        seen = state.out[0, 0, token].nonzero().flatten()
        assert (seen * blocks // m == token * blocks // n).all()
    reached = (state.out[0, 0] > 0).any(0)
    expected = torch.isin(torch.arange(m) * blocks // m, torch.arange(n) * blocks // n)
    assert torch.equal(reached, expected)


def test_causal_hyper_attention_sees_no_future() -> None:
    q, k, v = (torch.randn(1, 2, 50, D, dtype=torch.float64) for _ in range(3))
    for samples in (0, 8):
        found = []
        for changed in (k, torch.cat([k[:, :, :31], torch.randn(1, 2, 19, D).double()], 2)):
            generator = torch.Generator().manual_seed(1)
            found.append(
                hyper_attention(
                    q, changed, v, block_size=9, samples=samples, causal=True, generator=generator
                ).out
            )
        # The halves that lie before the change draw and answer alike.
        assert torch.equal(found[0][:, :, :25], found[1][:, :, :25])
    exact = hyper_attention(q, k, v, block_size=50, causal=True)
    assert error(exact.out, attend(q, k, v, causal=True).out) <= 1e-12
    causal = hyper_attention(q, k, v, block_size=25, samples=0, causal=True)
    first = attend(q[:, :, :25], k[:, :, :25], v[:, :, :25], causal=True)
    assert error(causal.out[:, :, :25], first.out) <= 1e-12
    second = attend(q[:, :, 25:], k, v, causal=True)
    assert error(causal.out[:, :, 25:], second.out) <= 1e-12  # one block of 25 sees all of 25


def test_what_is_lost_is_known_exactly() -> None:
    """For random selections, of nothing and of everything too."""
    q = torch.randn(2, 4, 5, D, dtype=torch.float64)
    k, v = torch.randn(2, 2, 30, D, dtype=torch.float64), torch.randn(2, 2, 30, 3).double()
    for kept in (torch.rand(2, 2, 30) > 0.5, torch.rand(2, 2, 30) > 0.9):
        found = truncation(q, k, v, kept)
        index = KeyIndex.build(k, v, partition="blocks")
        some = selective_attention(q, index, tokens=kept, tail="drop")
        off = (some.out - attend(q, k, v).out).norm(dim=-1)
        assert error(found.predicted, off) <= 1e-12 and error(found.error, off) <= 1e-12
        masses = (q @ k.repeat_interleave(2, 1).mT / D**0.5).softmax(-1)
        rest = ~kept.repeat_interleave(2, 1).unsqueeze(2)
        assert error(found.mass, (masses * rest).sum(-1)) <= 1e-12
    everything = truncation(q, k, v, torch.ones(2, 2, 30, dtype=torch.bool))
    assert (everything.mass == 0).all() and (everything.error <= 1e-12).all()


def test_matrix_entropy() -> None:
    """Of planted ranks; streamed and merged, the same as at once."""
    x = torch.randn(4000, D, dtype=torch.float64)
    assert float(matrix_entropy(x)) >= 0.99
    line = torch.randn(500, 1, dtype=torch.float64) @ torch.randn(1, D, dtype=torch.float64)
    assert abs(float(matrix_entropy(line))) <= 1e-6
    plane = torch.randn(5000, 2, dtype=torch.float64) @ torch.eye(2, D, dtype=torch.float64)
    assert effective_rank(matrix_entropy(plane), D) == pytest.approx(2, abs=0.01)
    assert float(matrix_entropy(torch.ones(5, D))) == 0
    monoid = ClusterSummary(D, 1, order=2)
    values = torch.zeros(4000, 1, dtype=torch.float64)
    parts = segment_reduce(monoid, monoid.lift(x, values), torch.arange(4000) % 3)
    whole = segment_reduce(monoid, parts)
    assert error(summary_entropy(whole)[0], matrix_entropy(x, unit_rows=False)) <= 1e-10


def test_truncated_entropies() -> None:
    """Renormalised, they grow with the rank; as published, they do not."""
    spectrum = torch.linspace(1, 4, 64).double().exp()
    x = torch.randn(20000, 64).double() * spectrum.sqrt()
    ranks = (4, 16, 48, 64)
    normalized = [float(matrix_entropy(x, rank=r, unit_rows=False)) for r in ranks]
    assert normalized == sorted(normalized)
    raw = [float(matrix_entropy(x, rank=r, normalize=False, unit_rows=False)) for r in (4, 64)]
    assert raw[0] < raw[1]
    with pytest.raises(ValueError, match="'rank' must be from 1 to"):
        matrix_entropy(x, rank=65)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(0, 500), st.floats(1, 5))
def test_entropy_budgets_keep_the_total(values: list[float], total: int, ratio: float) -> None:
    budgets = entropy_budgets(torch.tensor(values), total, ratio=ratio)
    assert int(budgets.sum()) == total and (budgets >= 0).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), st.integers(0, 200), st.integers(0, 30))
def test_entropy_budgets_hand_on_what_a_head_cannot_have(
    values: list[float], total: int, most: int
) -> None:
    budgets = entropy_budgets(torch.tensor(values), total, most=most)
    assert int(budgets.sum()) == min(total, most * len(values)) and (budgets <= most).all()
    free = entropy_budgets(torch.tensor(values), total)
    assert (budgets >= torch.minimum(free, torch.tensor(most))).all()


def test_a_threshold_between_the_clusters_kept_and_the_others() -> None:
    """The cluster that reaches the fraction is kept, and what scores alike, and no others."""

    def kept(scores: list[float], sizes: list[int], fraction: float) -> list[bool]:
        score, size = torch.tensor(scores), torch.tensor(sizes)
        return (score > global_threshold([score], [size], fraction)).tolist()

    assert kept([0.9, 0.001], [1, 99], 0.02) == [True, True]
    assert kept([0.9, 0.001], [1, 99], 0.01) == [True, False]
    assert kept([0.9, 0.5, 0.1], [2, 2, 6], 0.3) == [True, True, False]
    assert kept([0.1] * 10, [1] * 10, 0.5) == [True] * 10
    assert kept([0.2, 0.1, 0.1, 0.05], [1, 1, 1, 1], 0.5) == [True, True, True, False]


def test_nobody_asks_or_nothing_is_there() -> None:
    k = torch.randn(1, 2, 9, D)
    index = KeyIndex.build(k, k, clusters=3)
    assert centroid_scores(k[:, :, :0], index).shape == (1, 2, 3)
    empty = KeyIndex.build(k[:, :, :0], k[:, :, :0], partition="blocks")
    assert (centroid_scores(k, empty) == -math.inf).all()
    assert observation_scores(k, k[:, :, :0]).shape == (1, 2, 0)
    for kind in ("unattended", "similar"):
        assert redundancy_scores(k, k[:, :, :0], kind=kind).shape == (1, 2, 0)
    assert hyper_attention(k, k[:, :, :0], k[:, :, :0], block_size=4).lse.eq(-math.inf).all()
    assert entropy_budgets(torch.rand(0), 5).tolist() == []


def test_sizes_are_counted_exactly_beside_narrow_scores() -> None:
    scores = torch.arange(2001).flip(0).bfloat16().view(1, 1, -1)
    assert int(top_fraction(scores, 1.0).sum()) == 2001


def test_heads_of_planted_ranks_get_their_budgets() -> None:
    """The two heads whose queries spread over more directions get twice as much."""
    low = torch.randn(2, 300, 1) @ torch.randn(2, 1, D)
    heads = torch.stack([low[0], torch.randn(300, D), low[1], torch.randn(300, D)])
    assert entropy_budgets(matrix_entropy(heads), 600).tolist() == [100, 200, 100, 200]


def test_block_budgets() -> None:
    budget = BlockBudget(block=8, mu=1.0, sigma=1.0)
    assert float(budget.shares.sum()) == pytest.approx(1)
    kept = budget.tokens(torch.rand(2, 3, 800))
    assert abs(float(kept.float().mean()) - budget.fraction) <= 0.02
    counts = kept.unflatten(-1, (100, 8)).sum(-1)
    assert set(counts.unique().tolist()) <= {1, 2, 4, 8}
    redundancy = torch.rand(1, 1, 20)
    only = BlockBudget(block=8, mu=1.0, sigma=0).tokens(redundancy)[0, 0]
    for start in (0, 8, 16):  # the last block is of 4
        least = redundancy[0, 0, start : start + 8].argsort()[:2] + start
        assert set(only.nonzero().flatten().tolist()) >= set(least.tolist())
    assert int(only.sum()) == 6
    fractions = [BlockBudget(block=64, mu=mu).fraction for mu in (1, 2, 3, 4)]
    assert fractions == sorted(fractions)
    assert BlockBudget(block=8, mu=3, sigma=0).tokens(torch.rand(1, 1, 21)).all()


def test_calibrated_budgets_hold_for_others() -> None:
    """Each head gets the sparsest that is near enough, on queries that were not looked at too."""

    def draw() -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (torch.randn(1, 2, n, D) for n in (64, 256, 256))
        q[:, 1] *= 6  # the second head looks at few keys
        return q, k, v

    candidates = [BlockBudget(block=16, mu=mu, sigma=0.5) for mu in (0, 1, 2, 3, 4)]
    candidates.append(BlockBudget(block=16, mu=4, sigma=0))
    q, k, v = draw()
    chosen = calibrate(q, k, v, candidates, 0.3)
    assert chosen[0] is not None and chosen[1] is not None
    assert chosen[1].fraction < chosen[0].fraction
    held_q = torch.randn(1, 2, 64, D)
    held_q[:, 1] *= 6
    for head, budget in enumerate(chosen):
        assert budget is not None
        kept = budget.tokens(redundancy_scores(held_q, k))[:, head : head + 1]
        one = slice(head, head + 1)
        found = truncation(held_q[:, one], k[:, one], v[:, one], kept)
        norm = attend(held_q[:, one], k[:, one], v[:, one]).out.norm()
        assert float(found.error.norm() / norm) <= 0.3 * 1.2
    marks = tokens_of_heads([*chosen[:1], None], redundancy_scores(q, k))
    assert torch.equal(marks[:, 0], chosen[0].tokens(redundancy_scores(q, k))[:, 0])
    assert marks[:, 1].all()
    assert calibrate(q, k, v, candidates[:1], 0.0) == [None, None]


@pytest.mark.parametrize("sigma", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("fraction", [1 / 64, 0.02, 0.2, 0.5, 0.97, 1.0])
def test_a_budget_of_a_fraction(fraction: float, sigma: float) -> None:
    budget = BlockBudget.of_fraction(fraction, sigma=sigma)
    assert abs(budget.fraction - fraction) <= 1e-6
    kept = budget.tokens(torch.rand(1, 2, 64 * 300, generator=torch.Generator().manual_seed(0)))
    assert abs(float(kept.double().mean()) / fraction - 1) <= 0.1


def test_the_most_redundant_tokens_are_no_padding() -> None:
    redundancy = torch.rand(1, 2, 100)
    redundancy[..., 3] = torch.inf
    assert BlockBudget.of_fraction(1.0).tokens(redundancy).all()
    assert not BlockBudget(64, mu=5, sigma=0).tokens(redundancy)[..., 3].any()


def test_what_is_masked_is_not_marked() -> None:
    scores = torch.tensor([[[1.0, -torch.inf, 2.0]]])
    for marks in (top_tokens(scores, 3), top_tokens(scores, 99), top_fraction(scores, 1.0)):
        assert marks.tolist() == [[[True, False, True]]]


def test_selection_where_numbers_are_not_looked_at() -> None:
    """Under ``torch.func``, a compiler, and of tensors without numbers."""
    q, k = torch.randn(3, 1, 2, 5, D), torch.randn(3, 1, 2, 40, D)

    def chosen(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scores = observation_scores(q, k)
        return top_tokens(scores, 3), top_fraction(scores, 0.2), BlockBudget(8, 1.0).tokens(-scores)

    each = [chosen(*one) for one in zip(q, k, strict=True)]
    batched = torch.vmap(chosen)(q, k)
    for at, marks in enumerate(batched):
        assert torch.equal(marks, torch.stack([one[at] for one in each]))
    torch._dynamo.reset()
    compiled = torch.compile(chosen, fullgraph=True, backend="eager")
    for mine, theirs in zip(compiled(q[0], k[0]), each[0], strict=True):
        assert torch.equal(mine, theirs)
    for mark in chosen(q[0].to("meta"), k[0].to("meta")):
        assert mark.shape == (1, 2, 40)


def test_numbers_of_numpy() -> None:
    scores = torch.rand(1, 2, 9)
    for three in (np.int64(3), [3, 3], torch.tensor([3, 3], dtype=torch.int32)):
        assert torch.equal(top_tokens(scores, three), top_tokens(scores, 3))  # type: ignore
    assert BlockBudget(np.int64(64)) == BlockBudget(64)  # type: ignore[arg-type]
    assert entropy_budgets(torch.rand(3), np.int64(10)).sum() == 10  # type: ignore[arg-type]
    assert top_tokens((9 * scores).long(), 3).sum() == 6


def test_clusters_by_numpy_numbers() -> None:
    k = torch.randn(1, 1, 40, D)
    for wanted in (np.float32(0.1), np.int64(4)):
        index = KeyIndex.build(k, k, clusters=wanted)  # type: ignore[arg-type]
        assert index.summary.size.size(2) == 4


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda k: KeyIndex.build(k[0], k[0]), r"'k' \[B, H, M, D\] and 'v'"),
        (lambda k: KeyIndex.build(k, k, clusters=0), "'clusters' must be a number from 1 up"),
        (lambda k: KeyIndex.build(k, k, clusters=1.5), "'clusters' must be a number from 1 up"),
        (lambda k: KeyIndex.build(k, k, partition="lsh"), "one of kmeans, blocks"),
        (lambda k: KeyIndex.build(k, k, partition=-torch.ones(9).long()), "labels from 0 up"),
        (lambda k: contiguous_blocks(3, 0), "'size' must be at least 1"),
        (lambda k: observation_scores(k, k, pool=2), "'pool' must be odd"),
        (lambda k: redundancy_scores(k, k, kind="x"), "one of unattended, similar"),
        (lambda k: top_fraction(torch.rand(1, 1, 3), 1.5), "'fraction' must be from 0 to 1"),
        (lambda k: entropy_budgets(torch.rand(3), -1), "'total' must be at least 0"),
        (lambda k: BlockBudget(block=6), "'block' must be a power of two"),
        (lambda k: entropy_budgets(torch.rand(3), 1, ratio=math.nan), "'ratio' must be at least 1"),
        (lambda k: entropy_budgets(torch.rand(3), 1, most=-1), "'most' must be at least 0"),
        (lambda k: matrix_entropy(torch.randn(5, 1)), r"'x' must have two features.*\(got 1\)"),
        (lambda k: matrix_entropy(torch.full((5, 2), math.nan)), "'x' must be finite"),
        (lambda k: hyper_attention(k, k, torch.cat([k, k], 2)), "'k' and 'v' alike"),
        (lambda k: centroid_scores(k[..., :3], KeyIndex.build(k, k)), "multiple of 2, N, 8.*9, 3"),
        (lambda k: centroid_scores(k, KeyIndex.build(k, k), level=1), "from 0 to 0 .got 1"),
        (
            lambda k: selective_attention(
                torch.cat([k, k]), KeyIndex.build(k, k), tokens=torch.ones(1, 2, 9).bool()
            ),
            r"'q' must be \[1, a multiple of 2, N, 8\] .*\(got \[2, 2, 9, 8\]\)",
        ),
        (lambda k: top_fraction(k[..., 0], 0.5, torch.ones(3)), r"'sizes' must have the shape"),
        (lambda k: KeyIndex.build(k, k.double()), "of one dtype and device"),
        (lambda k: KeyIndex.build(k, k, partition=torch.zeros(4).long()), r"labels \[1, 2, 9\]"),
        (
            lambda k: selective_attention(
                k, KeyIndex.build(k, k), tokens=torch.ones(1, 2, 9).bool(), samples=0
            ),
            "'samples' must be at least 1",
        ),
        (lambda k: hyper_attention(k, k, k, block_size=0), "'block_size' must be at least 1"),
        (lambda k: hyper_attention(k, k[:, :, :3], k[:, :, :3], causal=True), "as many queries"),
        (lambda k: hyper_attention(k[:, :1], k, k), "the heads of 'k' a divisor"),
        (
            lambda k: hyper_attention(k, k, k, samples=cast(int, 2.5)),
            r"'samples' must be an int.*\(got 2.5",
        ),
        (
            lambda k: top_tokens(k[..., 0], cast(int, 0.2)),
            "see top_fraction",
        ),
        (lambda k: top_tokens(k[..., 0], torch.tensor([0.5, 2])), "see top_fraction"),
        (lambda k: top_tokens(k[..., 0], torch.tensor([1, -2])), r"be negative \(got -2\)"),
        (lambda k: top_tokens(k[..., 0], torch.ones(3).long()), r"broadcast over \[1, 2\]"),
        (lambda k: top_tokens(k[..., 0] * math.nan, 1), r"'scores' must be numbers \(got NaN"),
        (lambda k: top_fraction(k[..., 0] * math.nan, 0.1), r"'scores' must be numbers"),
        (lambda k: top_fraction(k[..., 0], 0.1, -k[..., 0].abs()), "'sizes' must not be negative"),
        (lambda k: top_fraction(k[..., 0], 0.1, k[..., 0] * math.nan), "'sizes' must not be"),
        (lambda k: observation_scores(k * math.nan, k), "'q' and 'k' must be finite"),
        (lambda k: observation_scores(k[..., :3], k), r"'q' must have the batch.*\[1, 2, 9, 3\]"),
        (lambda k: observation_scores(torch.cat([k, k]), k), "'q' must have the batch"),
        (lambda k: observation_scores(k.long(), k), "'q' must be floating point.*int64"),
        (lambda k: redundancy_scores(k, k[:, :0]), "a multiple of its heads"),
        (lambda k: entropy_budgets(torch.rand(3), cast(int, 0.2)), "'total' must be an integer"),
        (lambda k: entropy_budgets(torch.rand(3) * math.nan, 2), "'entropies' must be numbers"),
        (lambda k: global_threshold([], [], 0.5), "of a layer at least"),
        (lambda k: global_threshold([k], [k[..., 0]], 0.5), "'sizes' must have the shapes"),
        (
            lambda k: truncation(k, k, k, torch.ones(1, 2, 8).bool()),
            r"'kept' must be bool \[1, 2, 9",
        ),
        (
            lambda k: hierarchical_clusters(
                k, KeyIndex.build(k, k, coarse=2), 0.1, coarse_fraction=2
            ),
            "'coarse_fraction' must be from 0 to 1",
        ),
        (lambda k: KeyIndex.build(k * math.nan, k), "'k' must be finite to be clustered"),
        (lambda k: KeyIndex.build(k[:, :0], k[:, :0]), "'k' must have a head"),
        (
            lambda k: KeyIndex.build(k, k, scale=cast(float, torch.ones(()))),
            "'scale' must be",
        ),
        (lambda k: KeyIndex.build(k, k, partition=torch.ones(9)), "got torch.float32 from 1"),
        (lambda k: BlockBudget(block=64.0), "'block' must be an integer"),  # type: ignore
        (lambda k: BlockBudget(mu=math.nan), "'mu' must be finite"),
        (lambda k: BlockBudget.of_fraction(0.001), "'fraction' must be from 1 / 64 to 1"),
        (lambda k: BlockBudget().tokens(k[..., 0] * math.nan), "'redundancy' must be numbers"),
        (lambda k: BlockBudget().tokens(k.long()[..., 0]), "'redundancy' must be floating point"),
        (lambda k: calibrate(k, k, k, [], -1.0), "'tolerance' must not be negative"),
        (lambda k: calibrate(k[0], k, k, [], 0.1), "'q' must be floating point"),
        (lambda k: tokens_of_heads([None], k[..., 0]), "one a head of 'redundancy'"),
    ],
)
def test_bad_input(call: object, says: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=says):
        call(torch.randn(1, 2, 9, D))


def test_keys_are_no_index() -> None:
    k = torch.randn(1, 2, 9, D)
    for call in (centroid_scores, selective_attention):
        with pytest.raises(TypeError, match=r"such as KeyIndex.build\(k, v\) \(got Tensor\)"):
            call(k, k)  # type: ignore[arg-type]


def test_bad_selections() -> None:
    k = torch.randn(1, 2, 9, D)
    index = KeyIndex.build(k, k, clusters=3)
    fine = torch.ones(1, 2, 9, dtype=torch.bool)
    for keywords, says in (
        ({}, "either 'clusters' or 'tokens'"),
        ({"tokens": fine, "tail": "x"}, "one of drop, summary, sample"),
        ({"tokens": fine[:, :1]}, r"'tokens' must be bool \[1, 2, 9\]"),
        ({"clusters": fine}, r"'clusters' must be bool \[1, 2, 3\]"),
        ({"tokens": fine.long()}, "'tokens' must be bool"),
    ):
        with pytest.raises(ValueError, match=says):
            selective_attention(k, index, **keywords)
    with pytest.raises(ValueError, match="a multiple of 2"):
        selective_attention(k[:, :1], index, tokens=fine)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("keys", [0, 1, 17, 300])
def test_summaries_of_tokens_are_folds_of_tokens(keys: int, weighted: bool, order: int) -> None:
    """The same sums as lifting each, and their gradients."""
    monoid = ClusterSummary(D, 3, order)
    labels = torch.randint(0, 9, (2, 2, keys)) ** 2 // 5
    weight = torch.rand(2, 2, keys, dtype=torch.float64) if weighted else None
    k = torch.randn(2, 2, keys, D, dtype=torch.float64, requires_grad=True)
    v = torch.randn(2, 2, keys, 3, dtype=torch.float64, requires_grad=True)
    states = monoid.lift(k.flatten(0, 2), v.flatten(0, 2))
    if weight is not None:
        states = monoid.weigh(states, weight.flatten())
    expected = summarize(monoid, states, labels)
    found = summarize_tokens(monoid, k, v, labels, weight)
    grads = []
    for state in (found, expected):
        total = sum(
            (field * torch.randn(field.shape, generator=torch.Generator().manual_seed(1))).sum()
            for field in state
            if field is not None
        )
        assert isinstance(total, Tensor)
        grads.append(torch.autograd.grad(total, (k, v)))
    for one, other in zip((*found, *grads[0]), (*expected, *grads[1]), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)
