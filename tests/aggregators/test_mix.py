"""The mix hands out what its factors fold to, each number through its gate."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch_geometric.nn import SAGEConv

from lcm_graph import regularization
from lcm_graph.aggregators import MixAggregation, MonoidAggregation, hard_concrete, plan_choices
from lcm_graph.aggregators.mix import COSTS, NUMBER_WEIGHT, SCALES
from lcm_graph.aggregators.number_gates import CLOSED, STEEPNESS
from lcm_graph.testing import Check, check_aggregation
from tests.references import error

IN = 5
SIZES = {"hidden": 7, "k": 3, "heads": 2, "clocks": 4, "learned": 6, "group": 3, "sums": 2}
WIDTHS = {
    "statistics": 14,
    "maxima": 7,
    "first": 30,
    "rotations": 8,
    "learned": 6,
    "group": 3,
    "sums": 2,
}
INDEX = torch.tensor([0, 1, 1, 0, 1, 1, 1, 0, 3])


def mix(**kwargs: Any) -> MixAggregation:
    return MixAggregation(IN, **{**SIZES, **kwargs})


def parts(aggr: MixAggregation, out: Tensor) -> dict[str, Tensor]:
    """What each factor hands out."""
    widths = [WIDTHS[name] for name in aggr.names]
    return dict(zip(aggr.names, out.split(widths, dim=-1), strict=True))


def set_gates(aggr: MixAggregation, is_open: bool, *names: str) -> None:
    """Make gates of factors constant, of all if none is named."""
    gates = aggr.factor_choice.gates
    for name in names or aggr.names:
        place = aggr.names.index(name)
        gates.opened[place], gates.closed[place] = is_open, not is_open


def set_number_gates(aggr: MixAggregation, gates: Tensor | float) -> None:
    with torch.no_grad():
        aggr.number_gates.log_gate.copy_(torch.as_tensor(gates).log() / STEEPNESS)


def random_gates(aggr: MixAggregation) -> tuple[Tensor, Tensor]:
    """Of factors and of channels, about a third of them closed."""
    set_gates(aggr, True)
    set_gates(aggr, False, "maxima", "learned")
    by_number = torch.empty_like(aggr.number_gates.log_gate).uniform_(-1, 2).relu().detach()
    set_number_gates(aggr, by_number)
    by_factor = torch.tensor([aggr.gates[name] for name in aggr.names])
    return by_factor.to(by_number.dtype), by_number


def suite() -> list[object]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        subjects = {
            "all": mix(),
            "exact": mix(learned=0),
            "fewest": mix(learned=0, group=0, sums=0),
        }
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


PHASES = {"warm-up": (9, 9), "choice": (0, 9), "after": (0, 0)}


@pytest.mark.parametrize("phase", list(PHASES))
@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_while_training_every_parameter_has_a_gradient(sparsity: float, phase: str) -> None:
    warmup, choice = PHASES[phase]
    aggr = mix(sparsity=sparsity, warmup=warmup, choice=choice)
    (aggr(torch.randn(9, IN), INDEX).square().sum() + aggr.regularization()).backward()
    for name, parameter in aggr.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    ("phase", "compiled"), [*((phase, False) for phase in PHASES), ("choice", True)]
)
def test_several_calls_before_one_backward(phase: str, compiled: bool) -> None:
    torch._dynamo.reset()
    warmup, choice = PHASES[phase]
    aggr = mix(order="given", bracketing="canonical", warmup=warmup, choice=choice)
    x, ptr = torch.randn(9, IN), torch.tensor([0, 2, 2, 9])
    call = torch.compile(aggr, backend="aot_eager") if compiled else aggr
    optimizer = torch.optim.SGD(aggr.parameters(), lr=1e-3)
    for _ in range(2):
        loss = call(x, ptr=ptr).square().sum() + aggr.regularization()
        loss = loss + call(-x, ptr=ptr).square().sum() + aggr.regularization()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert aggr.factor_choice.calls == 4
    for name, parameter in aggr.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    ("kwargs", "left_out"),
    [
        ({}, set()),
        ({"learned": 0}, {"learned"}),
        ({"sums": 0}, {"sums"}),
        ({"group": 0}, {"group"}),
        ({"learned": 0, "group": 0, "sums": 0}, {"learned", "group", "sums"}),
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
    aggr = mix(order="given", bracketing="canonical", warmup=0, clock_dropout=0)
    aggr = aggr.double().train(training)
    by_factor, by_number = random_gates(aggr)
    x = torch.randn(9, IN, dtype=torch.float64)
    found = parts(aggr, aggr(x, INDEX))
    channels = parts(aggr, by_number)
    for name, factor, gate in zip(aggr.names, aggr.monoid.factors, by_factor, strict=True):
        fading, gate = channels[name].tanh(), gate * channels[name]
        expected = SCALES.get(name, 1.0) * MonoidAggregation(factor)(x, INDEX)
        if name == "statistics":
            expected = expected + aggr.read_statistics(fading * expected)
        assert error(found[name], gate * expected) < 1e-12, name


@pytest.mark.parametrize("name", list(WIDTHS))
def test_a_number_closes_without_a_jump(name: str) -> None:
    aggr = mix(order="given", bracketing="canonical", warmup=0).eval()
    set_gates(aggr, True)
    place = sum(WIDTHS[other] for other in aggr.names[: aggr.names.index(name)])
    x, outputs, gates = torch.randn(9, IN), [], torch.ones(aggr.out_channels)
    for gate in (1.0, 1.01 * CLOSED, 0.99 * CLOSED):
        gates[place] = gate
        set_number_gates(aggr, gates)
        outputs.append(aggr(x, INDEX))
    assert 0 < error(outputs[1], outputs[2]) < 0.02 * error(outputs[0], outputs[2])


def test_while_factors_are_chosen_they_are_shut_for_whole_sets() -> None:
    aggr = mix(order="given", bracketing="canonical", warmup=0, clock_dropout=0)
    x, index = torch.randn(4000, IN), torch.arange(2000).repeat(2)
    set_gates(aggr, True)
    expected = parts(aggr, aggr(x, index))
    gates = aggr.factor_choice.gates
    for place, name in enumerate(aggr.names):
        set_gates(aggr, True)
        gates.opened[place] = False
        with torch.no_grad():
            gates.logit[place] = (0.3 - hard_concrete.START) / hard_concrete.RATE
        likely = gates.open_probability()[place].item()
        found = parts(aggr, aggr(x, index))
        shut = found[name].eq(0).all(1)
        some = expected[name].ne(0)  # all but the flags of elements that a set has not
        assert torch.equal(shut, (some & found[name].eq(0)).any(1)), name
        assert abs(shut.float().mean() - (1 - likely)) < 0.05, name
        for other in set(aggr.names) - {name}:
            assert torch.equal(found[other], expected[other]), (name, other)
        if name == "statistics":
            continue  # read by a network that is not linear: what it gives a shut set is 0 as well
        ratio = torch.where(some, found[name] / expected[name], 0)
        most = torch.where(some, ratio.amax(1, keepdim=True), 0)
        torch.testing.assert_close(ratio, most, atol=1e-3, rtol=1e-2)
        assert 0 <= ratio.min() and ratio.max() < 1.01 and (ratio[~shut] < 0.9).any(), name


def test_elements_of_zeros_are_told_from_none() -> None:
    aggr = mix().eval()
    first = parts(aggr, aggr(torch.zeros(2, IN), torch.tensor([0, 0])))["first"].view(3, 2, IN)
    assert torch.equal(first[:2], torch.full((2, 2, IN), -0.5)) and first[2].eq(0).all()


def test_in_the_warm_up_sets_see_a_part_of_the_factors() -> None:
    aggr = mix(order="given", bracketing="canonical", factor_dropout=0.25, clock_dropout=0)
    x, index = torch.randn(4000, IN), torch.arange(2000).repeat(2)
    set_gates(aggr, True)
    with_all = copy.deepcopy(aggr).eval()
    expected = parts(aggr, with_all(x, index))
    found = parts(aggr, aggr(x, index))
    for name in aggr.names:
        hidden = found[name].eq(0).all(1)
        assert abs(hidden.float().mean() - 0.25 * 6 / 7) < 0.05, name
        if name != "first":  # blends what it picks while it learns
            assert error(found[name][~hidden], expected[name][~hidden]) < 1e-6, name


@pytest.mark.parametrize("training", [True, False])
def test_what_is_switched_off_is_zero_even_where_it_is_infinite(training: bool) -> None:
    aggr = mix(warmup=0).train(training)
    set_gates(aggr, True)
    set_gates(aggr, False, "sums")
    with torch.no_grad():
        aggr.monoid.factors[-1].get_parameter("module.weight").fill_(3e38)
    x = torch.rand(9, IN, requires_grad=True)
    alone = MonoidAggregation(aggr.monoid.factors[-1])(x, INDEX)
    assert alone[[0, 1, 3]].isinf().all()
    out = aggr(x, INDEX)
    assert torch.equal(parts(aggr, out)["sums"], torch.zeros(4, 2))
    assert not aggr.gates["sums"] and aggr.gates["maxima"]
    assert out.isfinite().all()
    (out.square().sum() + aggr.regularization()).backward()
    assert x.grad is not None and x.grad.isfinite().all()
    if training:
        for name, parameter in aggr.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        grad = aggr.factor_choice.gates.logit.grad
        assert grad is not None and grad[-1] == 0, "a closed gate stays closed"


def test_numbers_that_are_switched_off_are_zero_even_where_they_are_infinite() -> None:
    aggr = mix(warmup=0)
    set_gates(aggr, True)
    gates = torch.ones(aggr.out_channels)
    gates[[0, 7, -1]] = torch.tensor([0, 0, 0.9 * CLOSED])  # the first mean, its deviation
    set_number_gates(aggr, gates)
    with torch.no_grad():
        aggr.monoid.factors[0].get_parameter("module.2.weight")[0] = 3e38
        aggr.monoid.factors[-1].get_parameter("module.weight")[-1] = 3e38
    x = 100 * torch.rand(9, IN)
    alone = MonoidAggregation(aggr.monoid.factors[-1])(x, INDEX)
    assert alone[[0, 1, 3], -1].isinf().all()
    out = aggr(x, INDEX)
    assert out[:, [0, -1]].eq(0).all() and out.isfinite().all()
    assert out[[0, 1, 3], 1].ne(0).all() and out[[0, 1, 3], -2].ne(0).all()


def test_factors_that_are_switched_off_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(x: Tensor) -> Tensor:
        raise AssertionError("computed")

    aggr, x = mix(warmup=0), torch.randn(9, IN, requires_grad=True)
    set_gates(aggr, True)
    for factor in aggr.monoid.factors:
        monkeypatch.setattr(factor, "lift", refuse)
    for name in aggr.names:
        with pytest.raises(AssertionError, match="computed"):
            aggr(x, INDEX)
        set_gates(aggr, False, name)
    out = aggr(x, INDEX)
    assert torch.equal(out, torch.zeros(4, aggr.out_channels))
    out.sum().backward()
    assert x.grad is not None and x.grad.eq(0).all()
    for name, parameter in aggr.named_parameters():
        assert parameter.grad is not None and parameter.grad.eq(0).all(), name


@pytest.mark.parametrize("training", [True, False])
def test_compiled_with_closed_gates(training: bool) -> None:
    torch._dynamo.reset()
    kwargs = {"warmup": 0, "choice": 3, "clock_dropout": 0.0}
    aggr = mix(order="given", bracketing="canonical", **kwargs).train(training)
    x, ptr = torch.randn(9, IN), torch.tensor([0, 2, 2, 9])
    random_gates(aggr)
    compiled = torch.compile(aggr, backend="aot_eager")
    for seed in range(3):
        torch.manual_seed(seed)
        expected, loss = aggr(x, ptr=ptr), aggr.regularization()
        torch.manual_seed(seed)
        assert error(compiled(x, ptr=ptr), expected) < 1e-6
        aggr.regularization()
    assert (loss > 0) == training and aggr.factor_choice.calls == 6 * training


def test_whole_clocks_are_dropped_in_training_and_nothing_else() -> None:
    aggr = mix(order="given", bracketing="canonical", warmup=0, clock_dropout=0.25)
    set_gates(aggr, True)
    x, index = torch.randn(4000, IN), torch.arange(2000).repeat(2)
    with_all = copy.deepcopy(aggr)
    with_all.clock_dropout = 0.0
    expected = parts(aggr, with_all(x, index))
    found = parts(aggr, aggr(x, index))
    ratio = (found.pop("rotations") / expected["rotations"]).unflatten(1, (2, -1))
    for name, other in found.items():
        assert torch.equal(other, expected[name]), name
    seen = ratio > 0.5  # of cosines, and of sines
    torch.testing.assert_close(ratio, seen / 0.75, atol=1e-5, rtol=0)
    assert torch.equal(seen[:, 0], seen[:, 1])
    assert abs(seen.float().mean() - 0.75) < 0.02
    assert seen[:, 0].any(0).all() and not seen[:, 0].all(0).any()
    aggr.eval()
    assert torch.equal(aggr(x, index), aggr(x, index))


def test_no_clock_is_dropped_once_factors_are_chosen() -> None:
    aggr = mix(order="given", bracketing="canonical", warmup=1, choice=1, clock_dropout=0.25)
    set_gates(aggr, True)
    x, dropped = torch.randn(9, IN), []
    for _ in range(4):
        both = parts(aggr, aggr(x, INDEX))["rotations"].unflatten(1, (2, -1))
        dropped.append(bool((both == 0).all(1).any()))  # cosine and sine
    assert dropped[0] and not dropped[2] and not dropped[3]


def test_phases_of_a_training_of_any_length() -> None:
    layers = nn.ModuleList([mix(), SAGEConv(IN, IN, aggr=mix(warmup=3)), nn.Linear(2, 2)])
    plan_choices(layers, 4096)
    found = [m.factor_choice for m in layers.modules() if isinstance(m, MixAggregation)]
    assert [(phases.warmup, phases.choice) for phases in found] == [(800, 1000)] * 2
    with pytest.raises(ValueError, match=r"'calls' must be a positive integer.*\(got 0\)"):
        plan_choices(layers, 0)


def test_numbers_cost_a_logarithm_of_how_open_they_are_once_factors_are_chosen() -> None:
    aggr = mix(sparsity=0.5, warmup=0, choice=0)
    gates = torch.ones(aggr.out_channels)
    gates[3] = 0.1
    set_number_gates(aggr, gates)
    aggr(torch.randn(9, IN), INDEX)
    loss = aggr.regularization()
    expected = 0.5 * NUMBER_WEIGHT * aggr.number_gates.loss()
    assert loss.item() == pytest.approx(expected.item()) and loss > 0
    loss.backward()
    others = {"factor_choice.gates.logit", "number_gates.log_gate"}
    assert all(p.grad is None for name, p in aggr.named_parameters() if name not in others)


def test_what_gates_cost_in_each_phase() -> None:
    aggr = mix(sparsity=0.5, warmup=3, choice=4)
    costs = [COSTS.get(name, 1.0) for name in aggr.names]
    assert aggr.factor_choice.costs == tuple(costs)
    x, losses = torch.randn(9, IN), []
    for _ in range(9):
        aggr(x, INDEX)
        losses.append(aggr.regularization().item())
    numbers = 0.5 * NUMBER_WEIGHT * aggr.out_channels
    assert losses[:3] == [0, 0, 0] and losses[7:] == pytest.approx([numbers, numbers])
    assert 0 < losses[3] < losses[4] < losses[5] == losses[6] < 0.5 * sum(costs)
    with torch.no_grad():
        aggr(x, INDEX)
    aggr.eval()(x, INDEX)
    assert aggr.factor_choice.calls == 9 and aggr.state_dict()["factor_choice.calls"] == 9
    aggr.reset_parameters()
    assert aggr.factor_choice.calls == 0


def test_what_checkpointing_repeats_does_not_count() -> None:
    aggr, x = mix(), torch.randn(9, IN, requires_grad=True)
    checkpoint(aggr, x, INDEX, use_reentrant=False).sum().backward()
    assert aggr.factor_choice.calls == 1


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW])
def test_weight_decay_opens_no_closed_gate(optimizer: type[torch.optim.Optimizer]) -> None:
    aggr, x = mix(warmup=0, choice=20), torch.randn(9, IN)
    with torch.no_grad():
        aggr.factor_choice.gates.logit[-1] = -1.0  # opens less than once in 100
    gates = torch.ones(aggr.out_channels)
    gates[0] = 0.99 * CLOSED
    set_number_gates(aggr, gates)
    made = optimizer(aggr.parameters(), lr=0.01, weight_decay=0.5)  # type: ignore[call-arg]
    for _ in range(60):
        made.zero_grad()
        (aggr(x, INDEX).square().sum() + aggr.regularization()).backward()
        made.step()
    assert (STEEPNESS * aggr.number_gates.log_gate[0]).exp() > CLOSED
    assert aggr.factor_choice.gates.logit[-1] > -0.95
    assert not aggr.gates["sums"]
    out = aggr.eval()(x, INDEX)
    assert parts(aggr, out)["sums"].eq(0).all() and out[:, 0].eq(0).all()
    other = mix().eval()
    other.load_state_dict(aggr.state_dict())
    assert torch.equal(other(x, INDEX), out)
    aggr.reset_parameters()
    assert aggr.gates["sums"]


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
    assert aggr.train()(x.to(dtype), ptr=torch.tensor([0, 5000])).dtype == dtype


def test_all_factors_stay_in_a_planned_training_too() -> None:
    aggr = mix(choice=0)
    plan_choices(aggr, 3)
    assert (aggr.factor_choice.warmup, aggr.factor_choice.choice) == (1, 0)


def test_training_closes_what_is_not_needed() -> None:
    aggr = mix(sparsity=0.05, warmup=10, choice=150)
    x = torch.randn(9, IN)
    target = x.new_zeros(4, 7).index_add_(0, INDEX, x[:, :1].expand(-1, 7))
    optimizer = torch.optim.Adam(aggr.parameters(), lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        maxima = parts(aggr, aggr(x, INDEX))["maxima"]
        ((maxima - target).square().mean() + aggr.regularization()).backward()
        optimizer.step()
    assert [name for name, is_open in aggr.gates.items() if is_open] == ["maxima"]


@pytest.mark.parametrize("training", [True, False])
def test_without_sparsity_nothing_closes_and_what_was_closed_stays_closed(training: bool) -> None:
    kwargs: dict[str, Any] = {"order": "given", "bracketing": "canonical", "clock_dropout": 0}
    aggr = mix(sparsity=0.0, warmup=0, choice=1, **kwargs).train(training)
    x = torch.randn(9, IN)
    expected = aggr(x, INDEX)
    with torch.no_grad():
        aggr.factor_choice.gates.logit.fill_(-1)
    for _ in range(3):
        aggr.factor_choice.count_call()
    assert torch.equal(aggr(x, INDEX), expected)
    assert aggr.factor_choice.weight == aggr.sparsity == 0

    trained = mix(warmup=0, **kwargs)
    random_gates(trained)
    aggr.load_state_dict(trained.state_dict())
    assert torch.equal(aggr(x, INDEX), trained.train(training)(x, INDEX))
    assert parts(aggr, aggr(x, INDEX))["maxima"].eq(0).all()


def test_training_goes_on_where_a_state_was_saved() -> None:
    def step(aggr: MixAggregation, optimizer: torch.optim.Optimizer, seed: int) -> None:
        torch.manual_seed(seed)
        optimizer.zero_grad()
        (aggr(torch.randn(9, IN), INDEX).square().mean() + aggr.regularization()).backward()
        optimizer.step()

    one, other = mix(warmup=3, choice=20), mix(warmup=3, choice=20)
    first, second = (torch.optim.SGD(aggr.parameters(), lr=0.1) for aggr in (one, other))
    for seed in range(30):
        step(one, first, seed)
        if seed == 12:
            other.load_state_dict(one.state_dict())
        if seed > 12:
            step(other, second, seed)
    assert one.gates == other.gates and not all(one.gates.values())
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


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
    aggr = mix(order="given", clock_dropout=0, sparsity=0)
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
    read = aggr.get_parameter("read_statistics.0.weight").detach().clone()
    aggr.reset_parameters()
    assert all(aggr.gates.values()) and (aggr.number_gates.log_gate == 0).all()
    assert not torch.equal(aggr.get_parameter("monoid.monoids.0.module.0.weight"), weight)
    assert not torch.equal(aggr.get_parameter("read_statistics.0.weight"), read)


def test_in_a_layer() -> None:
    aggr = mix()
    conv = SAGEConv((aggr.out_channels, IN), 3, aggr=aggr)
    x, edges = torch.randn(6, IN), torch.randint(0, 6, (2, 40))
    out = conv(x, edges)
    assert out.shape == (6, 3)
    (out.square().mean() + regularization(conv)).backward()
    grad = aggr.number_gates.log_gate.grad
    assert grad is not None and grad.isfinite().all()


def test_repr() -> None:
    text = repr(mix(associativity=0.5))
    assert text.startswith("MixAggregation(Product(Lifted(")
    assert text.endswith("order='random', bracketing='random', associativity=0.5)")
    # Two mixes that learn apart look apart.
    assert "sparsity=3.0, warmup=400, choice=500, factor_dropout=0.5, clock_dropout=0.2" in text
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
        ("choice", -1),
        ("clock_dropout", -0.1),
        ("clock_dropout", 1),
        ("clock_dropout", None),
        ("factor_dropout", -0.1),
        ("factor_dropout", 1.0),
        ("factor_dropout", "half"),
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
