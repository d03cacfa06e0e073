"""Memories of streams against offline selections and plain loops."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from lcm_graph.attention import attend
from lcm_graph.attention.memories import (
    StreamMemory,
    fold_left,
    phrase_scores,
    retrieve,
    select_segments,
    static_scores,
)
from tests.references import error


def offline(
    scores: list[torch.Tensor], budget: int, n_sink: int, window: int, decay: float
) -> list[int]:
    """Positions kept of a whole stream at once, by scores as they are at its end."""
    turns = len(scores)
    decayed = torch.cat(
        [s.double() * decay ** (turns - turn) for turn, s in enumerate(scores)]
        or [torch.empty(0, dtype=torch.float64)]
    )
    n = len(decayed)
    between = range(n_sink, max(n_sink, n - window))
    best = sorted(between, key=lambda j: -float(decayed[j]))[:budget]
    return sorted({*range(min(n_sink, n)), *best, *range(max(n - window, 0), n)})


@pytest.mark.parametrize("decay", [1.0, 0.9, 0.3])
@pytest.mark.parametrize(("n_sink", "window"), [(0, 0), (4, 0), (2, 5), (0, 16)])
@pytest.mark.parametrize("sizes", [[], [0], [1], [7] * 40, [0, 17, 1, 100, 3, 0, 2]])
def test_the_stream_keeps_what_an_offline_selection_does(sizes, n_sink, window, decay):
    generator = torch.Generator().manual_seed(len(sizes))
    tokens = [torch.randn(n, 3, generator=generator) for n in sizes]
    scores = [torch.rand(n, generator=generator) for n in sizes]
    memory = StreamMemory(3, 32, n_sink=n_sink, window=window, decay=decay)
    for one, score in zip(tokens, scores, strict=True):
        memory.append(one, score)
    expected = offline(scores, 32, n_sink, window, decay)
    assert memory.positions.tolist() == expected
    assert len(memory) == len(expected) and memory.seen == sum(sizes)
    if sizes:
        torch.testing.assert_close(memory.tokens, torch.cat(tokens)[expected], rtol=0, atol=0)


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=8),
    st.lists(st.floats(0.001, 1000), min_size=80, max_size=80, unique=True),
    st.data(),
)
def test_without_decay_it_does_not_matter_how_a_stream_is_cut(sizes, scores, data):
    total = sum(sizes)
    values = torch.tensor(scores[:total], dtype=torch.float64)
    tokens = torch.arange(total).double().unsqueeze(1)

    def run(cuts: list[int]) -> list[int]:
        memory = StreamMemory(1, 5, n_sink=1, window=3)
        for one, score in zip(tokens.split(cuts), values.split(cuts), strict=True):
            memory.append(one, score)
        return memory.positions.tolist()

    middle = data.draw(st.integers(0, total))
    assert run(sizes) == run([total]) == run([middle, total - middle])


def test_a_strong_decay_keeps_the_latest_and_none_the_highest():
    scores = torch.rand(20, 5, generator=torch.Generator().manual_seed(0)) + 0.5
    kept = {}
    for decay in (1.0, 1e-3):
        memory = StreamMemory(1, 10, n_sink=0, decay=decay)
        for turn in scores:
            memory.append(turn.unsqueeze(1), turn)
        kept[decay] = memory.positions.tolist()
    assert kept[1e-3] == list(range(90, 100))
    assert kept[1.0] == sorted(scores.flatten().topk(10).indices.tolist())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_with_room_for_all_attention_is_exact(dtype):
    """Of several heads that share the keys, with the gradients of the queries and latest turn."""
    generator = torch.Generator().manual_seed(4)
    q = torch.randn(1, 4, 5, 8, generator=generator).to(dtype)
    turns = torch.randn(60, 16, generator=generator).to(dtype).split(9)

    def run(attention):
        inputs = [q.clone().requires_grad_(), turns[-1].clone().requires_grad_()]
        out = attention(inputs[0], [*turns[:-1], inputs[1]])
        cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(5)).to(out)
        return out, *torch.autograd.grad(out, inputs, cotangent)

    def remembered(q, turns):
        memory = StreamMemory(16, 60, n_sink=2, window=7, decay=0.5)
        for turn in turns:
            memory.append(turn, torch.rand(len(turn), generator=generator))
        return attend(q, *memory.tokens[None, None].split(8, dim=-1)).out

    def reference(q, turns):
        k, v = torch.cat(turns)[None, None].split(8, dim=-1)
        q, k, v = (t.double() for t in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    tolerance = 1e-12 if dtype == torch.float64 else 1e-2
    for found, expected in zip(run(remembered), run(reference), strict=True):
        assert error(found, expected) <= tolerance


def test_half_life():
    """A token twice as surprising lasts log 2 / -log η turns longer."""
    lasting = {}
    for surprise in (2.0, 4.0):
        memory = StreamMemory(1, 1, n_sink=0, decay=0.9)
        memory.append(torch.ones(1, 1), torch.tensor([surprise]))
        while memory.positions.tolist() == [0]:
            memory.append(torch.zeros(1, 1), torch.ones(1))
        lasting[surprise] = memory.turn
    assert abs(lasting[4.0] - lasting[2.0] - math.log(2) / -math.log(0.9)) < 1


def test_a_long_stream_decays_exactly():
    """After a million turns a factor of 0.999 still tells two scores apart, and 0 is a score."""
    first = static_scores(torch.ones(1), 1_000_000, 0.999)
    second = static_scores(torch.tensor([0.9995]), 1_000_001, 0.999)
    assert second > first
    assert static_scores(torch.zeros(1), 5, 0.5).isfinite().all()


PLACES = torch.arange(9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: StreamMemory(0, 1), "'channels' must be"),
        (lambda: StreamMemory(1, 0), "'budget' must be"),
        (lambda: StreamMemory(1, 1, n_sink=-1), r"'n_sink' must be at least 0 \(got -1\)"),
        (lambda: StreamMemory(1, 1, decay=0.0), r"'decay' must be above 0.*\(got 0.0\)"),
        (lambda: StreamMemory(1, 1, decay=1.1), r"'decay' must be above 0.*\(got 1.1\)"),
        (
            lambda: StreamMemory(2, 1).append(torch.ones(3, 1), torch.ones(3)),
            r"'tokens' must be \[n, 2\].*got \[3, 1\] and \[3\]",
        ),
        (
            lambda: StreamMemory(2, 1).append(torch.ones(3, 2), torch.ones(2)),
            r"got \[3, 2\] and \[2\]",
        ),
        (lambda: static_scores(torch.tensor([1.0, -2.0]), 0, 1.0), r"NaN \(got -2\)"),
        (lambda: static_scores(torch.tensor([torch.nan]), 0, 1.0), r"NaN \(got nan\)"),
        (lambda: phrase_scores(torch.ones(3), torch.ones(3)), r"got \[3\] and \[3\]"),
        (lambda: phrase_scores(torch.ones(2, 3), torch.ones(3)), r"got \[2, 3\] and \[3\]"),
        (lambda: phrase_scores(torch.ones(2, 3), torch.ones(2), phrase=0), "'phrase' must be"),
        (lambda: select_segments(torch.ones(2), torch.ones(3), 1), r"got \[2\] and \[3\]"),
        (lambda: select_segments(torch.ones(2), torch.ones(2), 0), "'count' must be"),
        (
            lambda: retrieve(torch.ones(9).__getitem__, PLACES.split(4), PLACES[:5], 1),
            r"from 0 to 4, each once \(got \[4, 5, 6, 7\]\)",
        ),
        (
            lambda: retrieve(torch.ones(9).__getitem__, [PLACES[:3], PLACES[2:4]], PLACES, 1),
            r"each once \(got \[2, 3\]\)",
        ),
        (
            lambda: retrieve(torch.ones(9).__getitem__, [PLACES - 1], PLACES, 1, carry=False),
            r"each once \(got \[-1, 0",
        ),
    ],
)
def test_mistakes(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_what_fails_changes_nothing():
    memory = StreamMemory(1, 2, n_sink=0)
    memory.append(torch.ones(3, 1), torch.tensor([1.0, 3.0, 2.0]))
    with pytest.raises(ValueError, match="NaN"):
        memory.append(torch.ones(1, 1), torch.tensor([torch.nan]))
    assert memory.positions.tolist() == [1, 2] and memory.turn == 1 and memory.seen == 3


@pytest.mark.parametrize("phrase", [1, 2, 3, 8])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 17), (2, 5), (2, 0)])
def test_phrase_scores_against_loops(rows, columns, phrase):
    attention, weights = torch.rand(rows, columns).double(), torch.rand(rows).double()
    expected = torch.zeros(columns, dtype=torch.float64)
    for j in range(columns):
        for i in range(j - (phrase - 1) // 2, j + phrase // 2 + 1):
            if 0 <= i < columns:
                for r in range(rows):
                    expected[j] += weights[r] ** 2 * attention[r, i]
    torch.testing.assert_close(phrase_scores(attention, weights, phrase=phrase), expected)


def test_whole_segments():
    scores = torch.tensor([0.1, 0.9, 0.2, 0.3, 0.8, 0.0])
    segments = torch.tensor([0, 0, 1, 1, 2, 3])
    assert select_segments(scores, segments, 1).tolist() == [True, True, *[False] * 4]
    assert select_segments(scores, segments, 2).tolist() == [True, True, False, False, True, False]
    assert select_segments(scores, segments, 100).all()
    assert select_segments(scores[:0], segments[:0], 3).shape == (0,)


def test_one_window_is_one_pass():
    own = torch.rand(40, generator=torch.Generator().manual_seed(1))
    segments = torch.arange(40) // 4
    everything = torch.arange(40)
    expected = everything[select_segments(own, segments, 3)]
    for carry in (True, False):
        found = retrieve(own.__getitem__, [everything], segments, 3, carry=carry)
        assert found.tolist() == expected.tolist()
        assert retrieve(own.__getitem__, [], segments, 3, carry=carry).tolist() == []


@pytest.mark.parametrize("carry", [True, False])
def test_a_needle_is_kept_wherever_chunks_are_cut(carry):
    own = torch.rand(64, generator=torch.Generator().manual_seed(2))
    own[30] = 2.0
    segments = torch.arange(64) // 5  # the needle's is 30 to 34
    for cut in range(1, 64):
        chunks = [*torch.arange(64).split([cut, 64 - cut])]
        found = retrieve(own.__getitem__, chunks, segments, 4, carry=carry).tolist()
        whole = not carry or not 30 < cut < 35  # else the segment was read in two pieces
        assert set(range(30, 35 if whole else 31)) <= set(found)


@pytest.mark.parametrize("carry", [True, False])
def test_with_room_for_all_everything_is_retrieved(carry):
    kept = retrieve(
        lambda at: at.sin(), torch.randperm(40).split(7), torch.arange(40) // 3, 40, carry=carry
    )
    assert kept.tolist() == list(range(40))


def test_scores_of_their_own_make_the_order_irrelevant_and_company_does_not():
    generator = torch.Generator().manual_seed(3)
    own, pull = torch.rand(60, generator=generator), torch.rand(60, 60, generator=generator)
    segments = torch.arange(60) // 3
    chunks = [*torch.arange(60).split(10)]
    turned = [chunks[i] for i in torch.randperm(6, generator=generator).tolist()]

    def beside(positions: torch.Tensor) -> torch.Tensor:
        """A softmax over whoever is there, so that scores depend on the company."""
        return pull[positions][:, positions].softmax(1).sum(0)

    def twice(score, carry):
        return [
            set(retrieve(score, some, segments, 4, carry=carry).tolist())
            for some in (chunks, turned)
        ]

    for score in (own.__getitem__, beside):
        first, second = twice(score, carry=False)
        assert first == second
    first, second = twice(beside, carry=True)
    assert first != second


@pytest.mark.parametrize("carry", [True, False])
@pytest.mark.parametrize(
    ("score", "chunks", "error", "message"),
    [
        (lambda p: p * torch.nan, [PLACES], ValueError, "for each of the 9 positions.*with NaN"),
        (lambda p: p[:2].float(), [PLACES], ValueError, r"of the 9 positions \(got \[2\]\)"),
        (torch.ones(9).__getitem__, [7, 2], TypeError, r"torch.arange\(n\).split\(m\).*got 7"),
        (torch.ones(9).__getitem__, PLACES, TypeError, r"int64 \[m\].*got tensor\(0\)"),
        (torch.ones(9).__getitem__, [PLACES.float()], TypeError, "int64"),
    ],
)
def test_scores_and_chunks_that_are_none(carry, score, chunks, error, message):
    with pytest.raises(error, match=message):
        retrieve(score, chunks, PLACES, 1, carry=carry)


def test_a_memory_keeps_no_graph():
    """But that of the latest turn, through which gradients flow."""
    memory, encode = StreamMemory(2, 8, n_sink=1), torch.nn.Linear(3, 2)
    for turn in range(20):
        x = torch.randn(2, 3, requires_grad=True)
        memory.append(encode(x), torch.full((2,), 1.0 + turn))
    depth, node = 0, memory.tokens.grad_fn
    while node is not None and node.next_functions:
        depth, node = depth + 1, node.next_functions[-1][0]
    assert depth < 8
    memory.tokens.sum().backward()
    assert x.grad is not None and (x.grad != 0).any()
    with pytest.raises(ValueError, match=r"torch.float32 on cpu as before \(got torch.float64"):
        memory.append(torch.ones(1, 2).double(), torch.ones(1))


def of_my_own(state: str) -> float:
    raise TypeError("my own")


def test_fold_left():
    assert fold_left(lambda s, c: s + c, ["b", "c"], "a", 3) == "abc"
    assert fold_left(lambda s, c: s + c, [], "a", 1) == "a"
    assert fold_left(max, [3, 9, 2], 0, 9, size=lambda state: state) == 9
    seen: list[str] = []

    def step(state: str, chunk: str) -> str:
        seen.append(chunk)
        return state + chunk

    with pytest.raises(ValueError, match=r"'budget' is 3, but the state after chunk 1 has size 4"):
        fold_left(step, ["bc", "d", "e"], "a", 3)
    assert seen == ["bc", "d"]
    with pytest.raises(ValueError, match="the state 'init' has size 5"):
        fold_left(lambda s, c: s, [], "abcde", 3)
    with pytest.raises(TypeError, match=r"after chunk 0 has no size; .*\(got NoneType\)"):
        fold_left(lambda s, c: None, ["b"], "a", 3)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match=r"'budget' must be a number.*\(got None\)"):
        fold_left(step, ["b"], "a", None)  # type: ignore[arg-type]
    assert fold_left(lambda s, c: c, ["a"], None, 3, size=lambda s: len(s or "")) == "a"
    assert fold_left(step, [], "a", torch.tensor(3)) == "a"  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="my own"):
        fold_left(step, [], "a", 3, size=of_my_own)
    with pytest.raises(ValueError, match="size nan"):
        fold_left(lambda s, c: s, [], 1.0, 3, size=lambda s: math.nan)
