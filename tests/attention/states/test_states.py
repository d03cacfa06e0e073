"""What the states of attention hold, against sums over all tokens."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lcm_graph.attention import (
    AttentionState,
    ClusterSummary,
    LinearAttention,
    SoftmaxAttention,
    TopMemory,
    merge,
    reweigh,
)
from lcm_graph.reduce import Accumulator, segment_reduce
from tests.references import error

SIZES = (0, 1, 2, 3, 16, 17, 200)
INDEX = torch.arange(len(SIZES)).repeat_interleave(torch.tensor(SIZES))


def softmax_of_sets(logits: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Looped: of each set, the weighted mean and the log of the weights' sum."""
    outs, lses = [], []
    for own in range(len(SIZES)):
        mine = INDEX == own
        if mine.any():
            outs.append((logits[mine].softmax(0).unsqueeze(-1) * values[mine]).sum(0))
            lses.append(logits[mine].logsumexp(0))
        else:
            outs.append(torch.zeros_like(values[:1]).sum(0))
            lses.append(torch.full_like(logits[:1], -math.inf).squeeze(0))
    return torch.stack(outs), torch.stack(lses)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_softmax_attention(shape: tuple[int, ...], size: float) -> None:
    """Values and gradients of each set, in every form of the fold, for logits of any size."""
    n = len(INDEX)
    logits = (size * torch.randn(n, *shape, dtype=torch.float64)).requires_grad_()
    values = torch.randn(n, *shape, 5, dtype=torch.float64, requires_grad=True)
    expected = softmax_of_sets(logits, values)
    monoid = SoftmaxAttention(5, shape)
    found = segment_reduce(monoid, monoid.lift(values, logits), INDEX, dim_size=len(SIZES))
    assert error(found.out, expected[0]) <= 1e-12
    finite = expected[1] != -math.inf
    assert error(found.lse[finite], expected[1][finite]) <= 1e-12
    assert (found.lse[~finite] == -math.inf).all()
    cotangents = torch.randn_like(found.out), torch.randn_like(found.lse)
    grads = []
    for out, lse in (found, expected):
        loss = (cotangents[0] * out).sum() + (cotangents[1] * lse)[finite].sum()
        grads.append(torch.autograd.grad(loss, (logits, values)))
    for mine, theirs in zip(*grads, strict=True):
        assert error(mine, theirs) <= 1e-11


def test_streams_of_logits_and_values() -> None:
    """An element of a stream is its logits, one for each query, and its value, one for all."""
    logits, values = torch.randn(len(INDEX), 2, 3), torch.randn(len(INDEX), 5)
    stream = Accumulator(SoftmaxAttention(5, (2, 3)))
    x = torch.cat([logits.flatten(1), values], 1)
    for rows in torch.randperm(len(INDEX)).split(29):
        stream.update(x[rows], INDEX[rows], dim_size=len(SIZES))
    expected, _ = softmax_of_sets(logits, values[:, None, None].expand(-1, 2, 3, -1))
    assert error(stream.result(), expected.flatten(1)) <= 1e-6


def test_merging_several_at_once() -> None:
    """As one after another, with states of no key among them."""
    states = [AttentionState(torch.randn(4, 2), 300 * torch.randn(4)) for _ in range(5)]
    states[2] = AttentionState(torch.zeros(4, 2), torch.full((4,), -math.inf))
    together = merge(*states)
    for state in states[1:]:
        states[0] = merge(states[0], state)
    assert error(together.out, states[0].out) <= 1e-6
    assert error(together.lse, states[0].lse) <= 1e-6
    nothing = merge(states[2], states[2])
    assert (nothing.lse == -math.inf).all() and (nothing.out == 0).all()


def test_gradients_where_there_is_no_key() -> None:
    lse = torch.full((2, 3), -math.inf, requires_grad=True)
    out = torch.zeros(2, 3, 4, requires_grad=True)
    state = AttentionState(out, lse)
    merged = merge(state, state)
    merged.out.sum().backward()
    assert out.grad is not None and lse.grad is not None
    assert (out.grad == 0).all() and (lse.grad == 0).all()


def test_weights_commute_with_merging() -> None:
    a, b = (AttentionState(torch.randn(7, 2), torch.randn(7)) for _ in range(2))
    weight = torch.randn(7)
    one, other = reweigh(merge(a, b), weight), merge(reweigh(a, weight), reweigh(b, weight))
    assert error(one.out, other.out) <= 1e-6 and error(one.lse, other.lse) <= 1e-6
    gone = merge(a, reweigh(b, -math.inf))
    assert torch.equal(gone.out, a.out) and torch.equal(gone.lse, a.lse)


def test_half_precision_keeps_lse() -> None:
    """A thousand keys in bfloat16 weigh what they weigh."""
    monoid = SoftmaxAttention(1)
    states = monoid.lift(torch.ones(1000, 1, dtype=torch.bfloat16), torch.zeros(1000).bfloat16())
    found = segment_reduce(monoid, states)
    assert found.out.dtype == torch.bfloat16 and found.lse.dtype == torch.float32
    assert found.lse.item() == pytest.approx(math.log(1000))


def test_linear_attention() -> None:
    """Read by queries, it is the weighted mean whose weights are the features' products."""
    n = len(INDEX)
    keys, values = torch.rand(n, 6, dtype=torch.float64), torch.randn(n, 3, dtype=torch.float64)
    queries = torch.rand(len(SIZES), 2, 6, dtype=torch.float64)
    monoid = LinearAttention(6, 3)
    state = segment_reduce(monoid, monoid.lift(keys, values), INDEX, dim_size=len(SIZES))
    found = monoid.read(state, queries)
    for own in range(len(SIZES)):
        mine = INDEX == own
        weights = queries[own] @ keys[mine].T
        if not mine.any():
            assert (found.lse[own] == -math.inf).all() and (found.out[own] == 0).all()
            continue
        expected = weights / weights.sum(1, keepdim=True) @ values[mine]
        assert error(found.out[own], expected) <= 1e-12
        assert error(found.lse[own], weights.sum(1).log()) <= 1e-12
    assert error(monoid.read(state, -queries).out, 0 * found.out) == 0  # weights below 0 are none


@pytest.mark.parametrize("order", [1, 2])
def test_cluster_summaries_of_one_key_are_exact(order: int) -> None:
    keys, values = torch.randn(9, 4, dtype=torch.float64), torch.randn(9, 3, dtype=torch.float64)
    queries = torch.randn(2, 5, 4, dtype=torch.float64)
    monoid = ClusterSummary(4, 3, order)
    found = monoid.read(monoid.lift(keys, values), queries, 0.5)
    assert error(found.lse, 0.5 * queries @ keys.T) <= 1e-12
    assert error(found.out, values.expand(2, 5, 9, 3)) <= 1e-12


def test_cluster_summaries_err_less_at_second_order() -> None:
    """Errors of the third power of the clusters' width, instead of the second."""
    centre, values = torch.randn(4, dtype=torch.float64), torch.randn(50, 3, dtype=torch.float64)
    noise = torch.randn(50, 4, dtype=torch.float64)
    query = torch.randn(1, 4, dtype=torch.float64)
    errors: dict[int, list[float]] = {1: [], 2: []}
    for width in (0.1, 0.05):
        keys = centre + width * noise
        logits = query @ keys.T
        for order, found in errors.items():
            monoid = ClusterSummary(4, 3, order)
            state = segment_reduce(monoid, monoid.lift(keys, values))
            out, lse = monoid.read(state, query, 1.0)
            found.append(float((lse - logits.logsumexp(1)).abs().max()))
            found.append(float((out.squeeze(1) - logits.softmax(1) @ values).abs().max()))
    assert 3 <= errors[1][0] / errors[1][2] <= 5 and 1.6 <= errors[1][1] / errors[1][3] <= 2.5
    assert errors[2][0] / errors[2][2] >= 6 and errors[2][1] / errors[2][3] >= 3.2


@pytest.mark.parametrize("size", [2, 5, 100])
def test_second_order_reaches_no_further_than_keys_do(size: int) -> None:
    """For queries of any length: no steeper than the furthest key, and values beside the mean by
    as many deviations as so many keys have."""
    monoid = ClusterSummary(3, 1, order=2)
    k = torch.randn(size, 3, dtype=torch.float64)
    index = torch.zeros(size, dtype=torch.long)
    direction = torch.randn(1, 3, dtype=torch.float64)
    along = k @ direction.T
    state = segment_reduce(monoid, monoid.lift(k, along), index)
    deviation = float(along.std(unbiased=False))
    furthest = math.sqrt(2 * math.log(size)) * deviation
    before = -math.inf
    for length in (1e-3, 1e-1, 1, 10, 1e3, 1e6):
        query = (length * direction).requires_grad_()
        found = monoid.read(state, query, 1.0)
        moved = float(found.out.detach()) - float(along.mean())
        expected = min(length * deviation**2, furthest)
        assert moved == pytest.approx(expected, rel=1e-6)
        steepness = float(found.lse.detach() - math.log(size)) / length
        assert before <= steepness <= float(along.mean()) + furthest + 1e-9
        before = steepness - 1e-9
        (grad,) = torch.autograd.grad(found.lse.sum() + found.out.sum(), query)
        assert grad.isfinite().all()


def test_empty_clusters_weigh_nothing() -> None:
    monoid = ClusterSummary(2, 1)
    keys = torch.randn(3, 2)
    state = segment_reduce(
        monoid, monoid.lift(keys, torch.ones(3, 1)), torch.tensor([0, 2, 2]), dim_size=4
    )
    logits = monoid.logits(state, torch.randn(5, 2), 1.0)
    assert (logits[:, [1, 3]] == -math.inf).all() and logits[:, [0, 2]].isfinite().all()


@pytest.mark.parametrize("budget", [1, 4, 300])
def test_top_memory(budget: int) -> None:
    """The tokens of highest score, in one fold, in a stream, and by a sort."""
    n = len(INDEX)
    scores, tokens = torch.randn(n), torch.randn(n, 2)
    monoid = TopMemory(2, budget)
    found = segment_reduce(monoid, monoid.lift(tokens, scores), INDEX, dim_size=len(SIZES))
    stream = Accumulator(monoid)
    x = torch.cat([scores.unsqueeze(1), tokens], 1)
    order = torch.randperm(n)
    for rows in order.split(13):
        stream.update(x[rows], INDEX[rows], dim_size=len(SIZES))
    assert torch.equal(stream.state().tokens, found.tokens)
    for own in range(len(SIZES)):
        mine = (INDEX == own).nonzero().flatten()
        best = mine[scores[mine].argsort(descending=True)][:budget]
        assert torch.equal(found.scores[own, : len(best)], scores[best])
        assert torch.equal(found.tokens[own, : len(best)], tokens[best])
        assert (found.scores[own, len(best) :] == -math.inf).all()
        assert (found.tokens[own, len(best) :] == 0).all()


def test_decay_ranks_like_a_score_that_stays() -> None:
    """Scores halved each turn, and evictions on the way, leave what the static ranking leaves."""
    turns, each, budget, decay = 40, 7, 32, 0.7
    scores, tokens = torch.rand(turns, each) + 0.1, torch.arange(turns * each).float()
    kept = torch.empty(0, 2)  # looped: score now, number
    for turn in range(turns):
        kept[:, 0] *= decay
        fresh = torch.stack([scores[turn], tokens[turn * each : (turn + 1) * each]], 1)
        kept = torch.cat([kept, fresh])
        kept = kept[kept[:, 0].argsort(descending=True)][:budget]
    monoid = TopMemory(1, budget)
    static = scores.log() - torch.arange(turns).unsqueeze(1) * math.log(decay)
    found = segment_reduce(monoid, monoid.lift(tokens.unsqueeze(1), static.flatten()))
    assert set(found.tokens.flatten().tolist()) == set(kept[:, 1].tolist())


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: SoftmaxAttention(0), "'channels' must be a positive integer"),
        (lambda: SoftmaxAttention(2, (0,)), "'shape' must be a positive integer"),
        (lambda: SoftmaxAttention(2).lift(torch.ones(4, 2)), r"takes elements \[n, 3\]"),
        (
            lambda: SoftmaxAttention(2).lift(torch.ones(4, 2), torch.ones(4, 1)),
            r"values \[4, 2\] or \[4, 2\] and logits \[4\] \(got \[4, 2\] and \[4, 1\]\)",
        ),
        (lambda: LinearAttention(2, 2).lift(torch.ones(4, 2), torch.ones(3, 2)), "got .4, 2."),
        (lambda: ClusterSummary(2, 2, order=3), "'order' must be 1 or 2"),
        (lambda: ClusterSummary(2, 2).lift(torch.ones(4, 3), torch.ones(4, 2)), "takes keys"),
        (lambda: TopMemory(2, 0), "'budget' must be a positive integer"),
        (lambda: TopMemory(2, 1).lift(torch.ones(4, 2), torch.ones(4, 1)), "scores .4. .got"),
    ],
)
def test_bad_input(call: object, says: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=says):
        call()


def test_states_are_merged_one_by_one() -> None:
    state = AttentionState(torch.ones(2, 3), torch.zeros(2))
    for others in ([[state, state]], [state, tuple(state)]):
        with pytest.raises(TypeError, match=r"merge\(\*states\).*\(got (list|tuple)\)"):
            merge(*others)
    with pytest.raises(TypeError, match=r"merge\(state, other\)"):
        state + state
    for shape in ((4, 3), (2, 1)):
        with pytest.raises(ValueError, match=rf"out \[2, 3\] and \[{shape[0]}, {shape[1]}\]"):
            merge(state, AttentionState(torch.ones(shape), torch.zeros(shape[0])))
    # As flash-attn hands it out: [B, N, H, D] and [B, H, N]
    other = AttentionState(torch.ones(1, 2, 3, 4), torch.zeros(1, 3, 2))
    with pytest.raises(ValueError, match=r"\[1, 3, 2\] and \[1, 2, 3, 4\]\): transpose"):
        merge(other, other)
