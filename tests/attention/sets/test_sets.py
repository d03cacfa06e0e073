"""Set attention without padding: laws, PyG's contract, PyG's numbers, chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.nn import aggr as pyg
from torch_geometric.nn.aggr import utils
from torch_geometric.nn.aggr.base import Aggregation

from lcm_graph.attention.sets import (
    InducedSetAttention,
    PerceiverAggregation,
    PMAAggregation,
    SeedAttention,
    SetAttention,
    SetTransformerAggregation,
    SlotAggregation,
    SlotEncoding,
)
from lcm_graph.attention.sets.grouped import GroupedAggregation
from lcm_graph.monoids import Monoid
from lcm_graph.reduce import Accumulator, fold_chunks, segment_reduce
from lcm_graph.testing import Check, check_aggregation, check_monoid
from tests.references import error

C = 8

MONOIDS: dict[str, Callable[[], Monoid]] = {
    "SeedAttention": lambda: SeedAttention(C),
    "SeedAttention-3-2": lambda: SeedAttention(C, num_seed_points=3, heads=2, layer_norm=False),
    "SlotEncoding": lambda: SlotEncoding(C, slots=3),
    "SlotEncoding-slots": lambda: SlotEncoding(C, slots=3, activation="slots"),
}

GROUPED: dict[str, Callable[[], GroupedAggregation]] = {
    "pma": lambda: PMAAggregation(C, num_seed_points=2, heads=2),
    "perceiver": lambda: PerceiverAggregation(C, num_latents=3, heads=2),
    "slots": lambda: SlotAggregation(C, slots=3, num_blocks=2, concat=True),
    "slots-softmax": lambda: SlotAggregation(C, slots=3, activation="slots", heads=4),
}

AGGREGATIONS: dict[str, Callable[[], Aggregation]] = {
    "pma": GROUPED["pma"],
    "slots": GROUPED["slots"],
    "transformer": lambda: SetTransformerAggregation(C, num_seed_points=2, heads=2),
    "transformer-induced": lambda: SetTransformerAggregation(
        C, num_induced_points=3, num_encoder_blocks=2, layer_norm=True, concat=False
    ),
}


def drawn(make: Callable[[], Any], seed: int = 0) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, id=f"{name}-{check}")
        for name, make in MONOIDS.items()
        for check in check_monoid(drawn(make))
    ],
)
def test_laws(check: Check) -> None:
    check()


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, id=f"{name}-{check}")
        for name, make in AGGREGATIONS.items()
        for check in check_aggregation(drawn(make), C, permutation_invariant=True)
    ],
)
def test_contract(check: Check) -> None:
    check()


SIZES = (3, 0, 1, 17, 3, 40)
INDEX = torch.arange(len(SIZES)).repeat_interleave(torch.tensor(SIZES))


@pytest.mark.parametrize("name", GROUPED)
def test_gathering_is_folding(name: str) -> None:
    """Values and gradients, of elements and parameters, however the sets are folded."""
    aggr = drawn(GROUPED[name]).double()
    x = torch.randn(len(INDEX), C, dtype=torch.float64, requires_grad=True)
    found = aggr(x, INDEX, dim_size=len(SIZES))
    states = segment_reduce(aggr.monoid, aggr.monoid.lift(x), INDEX, dim_size=len(SIZES))
    expected = aggr.finish(aggr.monoid.lower(states))
    assert error(found, expected) <= 1e-12
    cotangent = torch.randn_like(expected)
    inputs = [x, *aggr.parameters()]
    mine, theirs = (torch.autograd.grad(out, inputs, cotangent) for out in (found, expected))
    for one, other in zip(mine, theirs, strict=True):
        assert error(one, other) <= 1e-10


@pytest.mark.parametrize("name", GROUPED)
@given(data=st.data())
def test_mini_batch_consistency(name: str, data: st.DataObject) -> None:
    """Whatever mini-batches the elements come in, in float32."""
    aggr = drawn(GROUPED[name]).eval()
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 999)))
    x = torch.randn(len(INDEX), C, generator=generator)
    order = torch.randperm(len(INDEX), generator=generator)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(INDEX)), max_size=6)))
    stream = Accumulator(aggr.monoid)
    with torch.no_grad():
        for rows in order.tensor_split(torch.tensor(cuts, dtype=torch.int64)):
            stream.update(x[rows], INDEX[rows], dim_size=len(SIZES))
        found = aggr.finish(stream.result())
        assert error(found, aggr(x, INDEX, dim_size=len(SIZES))) <= 1e-5


@pytest.mark.parametrize("name", ["pma", "slots"])
def test_gradients_of_sampled_chunks_are_unbiased(name: str) -> None:
    """The mean over all chunks that can be drawn is the gradient of the whole set."""
    aggr = drawn(GROUPED[name]).double()
    chunks = list(torch.randn(24, C, dtype=torch.float64).split(8))
    weights = [weight for weight in aggr.monoid.parameters()]
    whole = aggr.monoid.lower(segment_reduce(aggr.monoid, aggr.monoid.lift(torch.cat(chunks))))
    cotangent = torch.randn_like(whole)
    expected = torch.autograd.grad(whole, weights, cotangent, allow_unused=True)
    by_draw: dict[int, list[Any]] = {}
    for seed in range(60):
        drawn_first = int(torch.randperm(3, generator=torch.Generator().manual_seed(seed))[0])
        generator = torch.Generator().manual_seed(seed)
        out = fold_chunks(aggr.monoid, chunks, gradient="sampled", generator=generator)
        grads = torch.autograd.grad(out, weights, cotangent, allow_unused=True)
        by_draw[drawn_first] = list(grads)
    assert len(by_draw) == 3
    for place, full in enumerate(expected):
        mean = torch.stack([grads[place] for grads in by_draw.values()]).mean(0)
        assert error(mean, full) <= 1e-10


SAME = torch.arange(4).repeat_interleave(5)


@pytest.mark.parametrize("layer_norm", [True, False])
@pytest.mark.parametrize(("seeds", "heads", "concat"), [(1, 1, True), (3, 2, True), (3, 4, False)])
def test_pyg_set_transformer(seeds: int, heads: int, concat: bool, layer_norm: bool) -> None:
    """Its weights and its numbers, where it pads nothing, and set by set where it does."""
    arguments: dict[str, Any] = {
        "num_seed_points": seeds, "num_encoder_blocks": 2, "heads": heads, "concat": concat,
        "layer_norm": layer_norm,
    }  # fmt: skip
    theirs = pyg.SetTransformerAggregation(C, **arguments).eval()
    ours = SetTransformerAggregation(C, **arguments).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(len(SAME), C)
    assert error(ours(x, SAME), theirs(x, SAME)) <= 1e-5
    x = torch.randn(len(INDEX), C)
    for own, size in enumerate(SIZES):
        if size:
            alone = theirs(x[own == INDEX], torch.zeros(size).long())
            assert error(ours(x, INDEX)[own : own + 1], alone) <= 1e-5


@pytest.mark.parametrize("kind", ["self", "induced"])
def test_pyg_blocks(kind: str) -> None:
    x = torch.randn(4, 5, C)
    theirs: Any = utils.SetAttentionBlock(C, heads=2)
    ours: Any = SetAttention(C, heads=2)
    if kind == "induced":
        theirs, ours = (
            utils.InducedSetAttentionBlock(C, 3, heads=2), InducedSetAttention(C, 3, heads=2)
        )  # fmt: skip
    ours.load_state_dict(theirs.state_dict())
    shuffled = torch.randperm(20)
    found = ours(x.flatten(0, 1)[shuffled], SAME[shuffled])
    assert error(found[shuffled.argsort()], theirs(x).flatten(0, 1)) <= 1e-5
    empty = torch.empty(0).long()
    assert ours(x[:0].flatten(0, 1), empty, dim_size=3).shape == (0, C)


def test_pyg_pooling() -> None:
    theirs = utils.PoolingByMultiheadAttention(C, 3, heads=2)
    ours = PMAAggregation(C, 3, heads=2)
    ours.monoid.load_state_dict(theirs.state_dict())
    x = torch.randn(4, 5, C)
    assert error(ours(x.flatten(0, 1), SAME), theirs(x).flatten(1)) <= 1e-5


def test_dropout_is_of_weights_in_training() -> None:
    """As PyG's: nothing in evaluation; in training the mean is near, and gradients flow."""
    aggr = PMAAggregation(C, layer_norm=False, dropout=0.5)
    x = torch.randn(400, C, requires_grad=True)
    still = aggr.eval()(x)
    assert torch.equal(still, PMAAggregation.forward(aggr, x))
    aggr.train()
    many = torch.stack([aggr(x) for _ in range(200)])
    assert many.std(0).max() > 1e-4 and error(many.mean(0), still) <= 0.1
    aggr(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


def test_weights_leave_elements_out() -> None:
    aggr = PMAAggregation(C).eval()
    x = torch.randn(6, C)
    weight = torch.tensor([1.0, 0, 1, 0, 1, 1])
    assert error(aggr(x, weight=weight), aggr(x[weight > 0])) <= 1e-6
    with pytest.raises(TypeError, match="cannot weigh elements"):
        SetTransformerAggregation(C)(x, weight=weight)


def test_memory_is_linear() -> None:
    """A set of 3,000 among sets of 1: nothing is padded to it."""
    aggr = PMAAggregation(C, num_seed_points=4).eval()
    seen: list[int] = []
    block = aggr.monoid.mab

    def noted(q: Tensor, k: Tensor, v: Tensor) -> Any:
        seen.append(k.size(1) * k.size(2))
        return type(block).gather(block, q, k, v)

    block.gather = noted
    index = torch.cat([torch.zeros(3000).long(), torch.arange(1, 500)])
    aggr(torch.randn(3499, C), index)
    assert sum(seen) == 3499


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: PMAAggregation(C, heads=3), "'heads' must be a divisor of 'channels', 8"),
        (lambda: PMAAggregation(C, num_seed_points=0), "'num_seed_points' must be a positive"),
        (lambda: SlotAggregation(C, activation="softmax"), "one of sigmoid, slots"),
        (lambda: SlotAggregation(C, slots=0), "'slots' must be a positive"),
        (lambda: InducedSetAttention(C, 0), "'num_induced_points' must be"),
        (lambda: SetAttention(C, heads=5), "'heads' must be a divisor"),
        (lambda: PMAAggregation(C)(torch.ones(3, 4)), "takes elements of 8 features"),
        (lambda: SetAttention(C)(torch.ones(3, 4)), "takes elements of 8 features"),
        (lambda: PMAAggregation(C)(torch.ones(3, C).double()), "parameters of torch.float32"),
        (lambda: SetTransformerAggregation(C)(torch.ones(3, C).half()), "got elements of torch.f"),
        (lambda: SetAttention(C)(torch.ones(C)), r"'x' must be \[n, 8\] \(got \[8\]\)"),
        (lambda: InducedSetAttention(C, 2)(torch.ones(3, C).long()), "floating-point elements"),
        (lambda: SlotAggregation(C, num_blocks=-1), "'num_blocks' must be an integer from 0 up"),
        (lambda: SetTransformerAggregation(C, num_encoder_blocks=-1), "'num_encoder_blocks'"),
        (lambda: SetTransformerAggregation(C, num_decoder_blocks=-2), "'num_decoder_blocks'"),
    ],
)
def test_bad_input(call: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()
