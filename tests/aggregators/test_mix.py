"""The mix hands out what its factors fold to, each number through its gate."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from torch_geometric.nn import SAGEConv

from lcm_graph import regularization
from lcm_graph.aggregators import MixAggregation, MonoidAggregation
from lcm_graph.aggregators.mix import CLOSED, KNEE, KNEE_OF_MOST_OPEN, SCALES, STEEPNESS
from lcm_graph.testing import Check, check_aggregation
from tests.references import error

IN = 5
SIZES = {"hidden": 7, "k": 3, "heads": 2, "clocks": 4, "learned": 6, "sums": 2}
WIDTHS = {"statistics": 14, "maxima": 7, "first": 30, "rotations": 8, "learned": 6, "sums": 2}
INDEX = torch.tensor([0, 1, 1, 0, 1, 1, 1, 0, 3])


def mix(**kwargs: Any) -> MixAggregation:
    return MixAggregation(IN, **{**SIZES, **kwargs})


def parts(aggr: MixAggregation, out: Tensor) -> dict[str, Tensor]:
    """What each factor hands out."""
    widths = [WIDTHS[name] for name in aggr.names]
    return dict(zip(aggr.names, out.split(widths, dim=-1), strict=True))


def set_gates(log_gate: Tensor, gates: Tensor) -> None:
    with torch.no_grad():
        log_gate.copy_(gates.log() / STEEPNESS)


def set_gate(aggr: MixAggregation, name: str, to: float) -> None:
    """Set the gate of one factor."""
    place = aggr.names.index(name)
    set_gates(aggr.log_gate[place], torch.tensor(to))


def random_gates(aggr: MixAggregation) -> tuple[Tensor, Tensor]:
    """Of factors and of channels, about a third of them closed."""
    both = []
    for log_gate in (aggr.log_gate, aggr.log_channel_gate):
        gates = torch.empty_like(log_gate).uniform_(-1, 2).relu().detach()
        set_gates(log_gate, gates)
        both.append(gates)
    return both[0], both[1]


def suite() -> list[object]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        subjects = {"all": mix(), "exact": mix(learned=0), "fewest": mix(learned=0, sums=0)}
    exact_picks = {"parameter_gradients": "evaluation picks exactly: orders learn in training only"}
    return [
        pytest.param(check, id=f"{name}-{check}")
        for name, aggr in subjects.items()
        for check in check_aggregation(
            aggr,
            IN,
            permutation_invariant="learned" not in aggr.names,
            expected_failures=exact_picks,
        )
    ]


@pytest.mark.parametrize("check", suite())
def test_conformance(check: Check) -> None:
    check()


def test_while_training_every_parameter_has_a_gradient() -> None:
    aggr = mix()
    aggr(torch.randn(9, IN), INDEX).square().sum().backward()
    for name, parameter in aggr.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    ("kwargs", "left_out"),
    [
        ({}, set()),
        ({"learned": 0}, {"learned"}),
        ({"sums": 0}, {"sums"}),
        ({"learned": 0, "sums": 0}, {"learned", "sums"}),
    ],
)
def test_output_width(kwargs: dict[str, int], left_out: set[str]) -> None:
    aggr = mix(**kwargs)
    assert set(aggr.names) == set(WIDTHS) - left_out
    assert aggr.out_channels == sum(WIDTHS[name] for name in aggr.names)
    assert aggr(torch.randn(9, IN), INDEX).shape == (4, aggr.out_channels)
    assert aggr.monoid.associative == ("learned" not in aggr.names)


@pytest.mark.parametrize("training", [True, False])
def test_each_part_is_its_factor_alone_times_its_gates(training: bool) -> None:
    aggr = mix(order="given", bracketing="canonical", clock_dropout=0)
    aggr = aggr.double().train(training)
    by_factor, by_channel = random_gates(aggr)
    x = torch.randn(9, IN, dtype=torch.float64)
    found = parts(aggr, aggr(x, INDEX))
    channels = parts(aggr, by_channel)
    for name, factor, gate in zip(aggr.names, aggr.monoid.factors, by_factor, strict=True):
        alone = MonoidAggregation(factor)(x, INDEX)
        scale = SCALES.get(name, 1.0)
        assert error(found[name], scale * gate * channels[name] * alone) < 1e-12, name
        assert aggr.gates[name] == pytest.approx(gate.item()), name


@pytest.mark.parametrize("to", [0.0, 0.9 * CLOSED])
def test_what_is_switched_off_is_zero_even_where_it_is_infinite(to: float) -> None:
    aggr = mix()
    set_gate(aggr, "sums", to)
    with torch.no_grad():
        aggr.monoid.factors[-1].get_parameter("module.weight").fill_(3e38)
    x = torch.rand(9, IN, requires_grad=True)
    alone = MonoidAggregation(aggr.monoid.factors[-1])(x, INDEX)
    assert alone[[0, 1, 3]].isinf().all()
    out = aggr(x, INDEX)
    assert torch.equal(parts(aggr, out)["sums"], torch.zeros(4, 2))
    assert aggr.gates["sums"] == 0 and aggr.gates["maxima"] == 1
    assert out.isfinite().all()
    (out.square().sum() + aggr.regularization()).backward()
    assert x.grad is not None and x.grad.isfinite().all()
    for name, parameter in aggr.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert aggr.log_gate.grad is not None
    assert aggr.log_gate.grad[aggr.names.index("sums")] == 0, "a closed gate stays closed"


def test_factors_that_are_switched_off_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(x: Tensor) -> Tensor:
        raise AssertionError("computed")

    aggr, x = mix(), torch.randn(9, IN, requires_grad=True)
    for factor in aggr.monoid.factors:
        monkeypatch.setattr(factor, "lift", refuse)
    for name in aggr.names:
        with pytest.raises(AssertionError, match="computed"):
            aggr(x, INDEX)
        set_gate(aggr, name, 0.0)
    out = aggr(x, INDEX)
    assert torch.equal(out, torch.zeros(4, aggr.out_channels))
    out.sum().backward()
    assert x.grad is not None and x.grad.eq(0).all()
    for name, parameter in aggr.named_parameters():
        assert parameter.grad is not None and parameter.grad.eq(0).all(), name


@pytest.mark.parametrize("training", [True, False])
def test_compiled_with_closed_gates(training: bool) -> None:
    torch._dynamo.reset()
    aggr = mix(order="given", bracketing="canonical", warmup=1, clock_dropout=0).train(training)
    x, ptr = torch.randn(9, IN), torch.tensor([0, 2, 2, 9])
    random_gates(aggr)
    compiled = torch.compile(aggr, backend="aot_eager")
    for _ in range(2):
        expected, loss = aggr(x, ptr=ptr), aggr.regularization()
        assert error(compiled(x, ptr=ptr), expected) < 1e-6
        aggr.regularization()
    assert (loss > 0) == training and aggr.training_calls == 4 * training


def test_whole_clocks_are_dropped_in_the_warm_up_and_nothing_else() -> None:
    aggr = mix(order="given", bracketing="canonical", warmup=3, clock_dropout=0.25)
    x, index = torch.randn(4000, IN), torch.arange(2000).repeat(2)
    with_all = copy.deepcopy(aggr)
    with_all.clock_dropout = 0.0
    expected = parts(aggr, with_all(x, index))
    for call in range(5):
        found = parts(aggr, aggr(x, index))
        ratio = (found.pop("rotations") / expected["rotations"]).unflatten(1, (2, -1))
        for name, other in found.items():
            assert torch.equal(other, expected[name]), name
        if call < 3:
            seen = ratio > 0.5  # of cosines, and of sines
            torch.testing.assert_close(ratio, seen / 0.75, atol=1e-5, rtol=0)
            assert torch.equal(seen[:, 0], seen[:, 1])
            assert abs(seen.float().mean() - 0.75) < 0.02
            assert seen[:, 0].any(0).all() and not seen[:, 0].all(0).any()
        else:
            torch.testing.assert_close(ratio, torch.ones_like(ratio))


def test_regularization_pulls_gates_down() -> None:
    aggr = mix(sparsity=0.5, warmup=0)
    set_gate(aggr, "rotations", 2.0)  # the most open
    set_gate(aggr, "first", 0.0)
    set_gate(aggr, "maxima", 0.1)
    aggr(torch.randn(9, IN), INDEX)
    loss = aggr.regularization()
    channels = aggr.out_channels / 300
    price = math.log(1 + 0.1 / KNEE) / math.log(1 + 1 / KNEE)
    most_open = math.log(1 + 2 / KNEE_OF_MOST_OPEN) / math.log(1 + 1 / KNEE)
    assert loss.item() == pytest.approx(0.5 * (1 + price + most_open + 2 * 1 + 5 * 1 + channels))
    loss.backward()
    by_factor, by_channel = aggr.log_gate.grad, aggr.log_channel_gate.grad
    assert by_factor is not None and by_channel is not None
    one, tenth = (g / (g + KNEE) / math.log(1 + 1 / KNEE) for g in (1.0, 0.1))
    two = 2 / (2 + KNEE_OF_MOST_OPEN) / math.log(1 + 1 / KNEE)
    slopes = torch.tensor([one, tenth, 0, two, 2 * one, 5 * one])
    assert error(by_factor, STEEPNESS * 0.5 * slopes) < 1e-6
    expected = torch.full((aggr.out_channels,), STEEPNESS * 0.5 * one / 300)
    assert error(by_channel, expected) < 1e-6
    gates = ("log_gate", "log_channel_gate")
    assert all(p.grad is None for name, p in aggr.named_parameters() if name not in gates)


def test_gates_cost_nothing_in_the_warm_up() -> None:
    aggr = mix(sparsity=0.5, warmup=4)
    x, losses = torch.randn(9, IN), []
    for _ in range(6):
        aggr(x, INDEX)
        losses.append(aggr.regularization().item())
    assert losses[:4] == [0, 0, 0, 0] and losses[4] == losses[5] > 0
    with torch.no_grad():
        aggr(x, INDEX)
    aggr.eval()(x, INDEX)
    assert aggr.training_calls == 6 and aggr.state_dict()["training_calls"] == 6
    aggr.reset_parameters()
    assert aggr.training_calls == 0


def test_what_checkpointing_repeats_does_not_count() -> None:
    aggr, x = mix(), torch.randn(9, IN, requires_grad=True)
    checkpoint(aggr, x, INDEX, use_reentrant=False).sum().backward()
    assert aggr.training_calls == 1


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW])
def test_weight_decay_opens_no_closed_gate(optimizer: type[torch.optim.Optimizer]) -> None:
    aggr, x = mix(warmup=0), torch.randn(9, IN)
    set_gate(aggr, "sums", 0.99 * CLOSED)
    with torch.no_grad():
        aggr.log_channel_gate[0] = aggr.log_gate[-1]
    made = optimizer(aggr.parameters(), lr=0.01, weight_decay=0.5)  # type: ignore[call-arg]
    for _ in range(50):
        made.zero_grad()
        (aggr(x, INDEX).square().sum() + aggr.regularization()).backward()
        made.step()
    for gate in (aggr.log_gate[-1], aggr.log_channel_gate[0]):
        assert (STEEPNESS * gate).exp() > CLOSED
    assert aggr.gates["sums"] == 0
    out = aggr.eval()(x, INDEX)
    assert parts(aggr, out)["sums"].eq(0).all() and out[:, 0].eq(0).all()
    other = mix().eval()
    other.load_state_dict(aggr.state_dict())
    assert torch.equal(other(x, INDEX), out)
    aggr.reset_parameters()
    assert aggr.gates["sums"] == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(dtype: torch.dtype) -> None:
    aggr = mix(sums=0).eval()
    x = torch.randn(5000, IN)
    expected = parts(aggr, aggr(x, ptr=torch.tensor([0, 5000])))
    out = aggr.to(dtype)(x.to(dtype), ptr=torch.tensor([0, 5000]))
    found = parts(aggr, out)
    assert out.dtype == dtype and out.isfinite().all()
    for name in ("statistics", "maxima"):
        assert error(found[name].float(), expected[name]) < 0.1


def test_training_closes_what_is_not_needed() -> None:
    aggr = mix(sparsity=0.1, warmup=10)
    x = torch.randn(9, IN)
    target = x.new_zeros(4, 7).index_add_(0, INDEX, x[:, :1].expand(-1, 7))
    optimizer = torch.optim.Adam(aggr.parameters(), lr=0.02)
    for _ in range(250):
        optimizer.zero_grad()
        maxima = parts(aggr, aggr(x, INDEX))["maxima"]
        ((maxima - target).square().mean() + aggr.regularization()).backward()
        optimizer.step()
    assert [name for name, gate in aggr.gates.items() if gate > 0] == ["maxima"]


def test_regularization_only_in_training() -> None:
    x = torch.randn(9, IN)
    aggr = mix(associativity=1.0).eval()
    aggr(x, INDEX)
    assert aggr.regularization() == 0
    off = mix(sparsity=0.0)
    off(x, INDEX)
    assert off.regularization() == 0


def test_the_learned_operator_takes_the_keywords_of_trees() -> None:
    x = torch.randn(9, IN)
    aggr = mix(sparsity=0.0, associativity=2.0)
    aggr(x, INDEX)
    assert aggr.regularization() > 0
    exact = mix(sparsity=0.0, associativity=2.0, learned=0)
    exact(x, INDEX)
    assert exact.regularization() == 0


def test_random_trees_while_training_by_default() -> None:
    aggr = mix(order="given", clock_dropout=0)
    x, index = torch.randn(64, IN), torch.zeros(64, dtype=torch.long)
    one, other = (parts(aggr, aggr(x, index)) for _ in range(2))
    changed = {name for name in aggr.names if error(one[name], other[name]) > 1e-3}
    assert changed == {"learned"}, "the others are associative"
    aggr.eval()
    assert torch.equal(aggr(x, index), aggr(x, index))


def test_state_dict_round_trip() -> None:
    one, other = mix().eval(), mix().eval()
    random_gates(one)
    x = torch.randn(9, IN)
    assert not torch.equal(one(x, INDEX), other(x, INDEX))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(x, INDEX), other(x, INDEX))


def test_reset_parameters_opens_the_gates_and_draws_anew() -> None:
    aggr = mix()
    random_gates(aggr)
    weight = aggr.get_parameter("monoid.monoids.0.module.0.weight").detach().clone()
    aggr.reset_parameters()
    assert (aggr.log_gate == 0).all() and (aggr.log_channel_gate == 0).all()
    assert not torch.equal(aggr.get_parameter("monoid.monoids.0.module.0.weight"), weight)


def test_in_a_layer() -> None:
    aggr = mix()
    conv = SAGEConv((aggr.out_channels, IN), 3, aggr=aggr)
    x, edges = torch.randn(6, IN), torch.randint(0, 6, (2, 40))
    out = conv(x, edges)
    assert out.shape == (6, 3)
    (out.square().mean() + regularization(conv)).backward()
    assert aggr.log_gate.grad is not None and aggr.log_gate.grad.isfinite().all()


def test_repr() -> None:
    text = repr(mix(associativity=0.5))
    assert text.startswith("MixAggregation(Product(Lifted(")
    assert text.endswith("order='random', bracketing='random', associativity=0.5)")
    assert (
        "sparsity=0.03, warmup=1000, clock_dropout=0.2" in text
    )  # two mixes that learn apart look apart
    for factor in ("Moments(7", "Max(7)", "KeyedTopK(5", "Rotation(5", "SlotSelection(6", "Sum(2)"):
        assert factor in text
    assert "SlotSelection" not in repr(mix(learned=0))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, value) for name in SIZES for value in (-1, 1.5)],
        *[(name, 0) for name in ("hidden", "k", "heads", "clocks")],
        ("warmup", -1),
        ("warmup", 0.5),
        ("warmup", True),
        ("clock_dropout", -0.1),
        ("clock_dropout", 1),
        ("clock_dropout", None),
        ("sparsity", -1.0),
        ("sparsity", float("nan")),
        ("order", "sorted"),
        ("bracketing", "left"),
        ("associativity", -1.0),
    ],
)
def test_bad_arguments(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"'{name}' must be"):
        mix(**{name: value})


@pytest.mark.parametrize("in_channels", [0, -1, 2.0])
def test_bad_in_channels(in_channels: Any) -> None:
    with pytest.raises(ValueError, match="'in_channels' must be a positive integer"):
        MixAggregation(in_channels)


def test_elements_of_another_size() -> None:
    with pytest.raises(ValueError, match="MixAggregation takes elements of 5 features"):
        mix()(torch.randn(9, IN + 1), INDEX)


def test_gathered_rows_are_the_elements_written_out() -> None:
    aggr = mix().eval()
    x, source = torch.randn(4, IN), torch.randint(0, 4, (9,))
    assert error(aggr(x, INDEX, source=source), aggr(x[source], INDEX)) < 1e-6
