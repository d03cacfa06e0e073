"""The training loop: learning, exact resumption, and refusals."""

import math
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import nn
from torch_geometric.nn import SAGEConv

from lcm_graph.aggregators import FoldAggregation, LCMAggregation, MixAggregation
from lcm_graph.training import CheckpointError, amsgrad, fit, load_checkpoint
from lcm_graph.training.loop import adam
from lcm_graph.training.mixes import plan_mixes
from tests.training.line import Line, make_model


def outcome(model, result):
    history = [asdict(epoch) | {"seconds": None} for epoch in result.history]
    return model.state_dict(), history, result.best_epoch, result.best_valid


def assert_same(a, b):
    weights_a, weights_b = a[0], b[0]
    assert weights_a.keys() == weights_b.keys()
    assert all(torch.equal(weights_a[key], weights_b[key]) for key in weights_a)
    assert a[1:] == b[1:]


def run(checkpoint=None, model=None, task=None, **settings):
    model = model or make_model()
    settings = {"epochs": 6, "lr": 0.05, "seed": 3, "checkpoint": checkpoint} | settings
    return outcome(model, fit(model, task or Line(), **settings))


def test_learns_and_keeps_the_best():
    model = make_model()
    task = Line()
    before = task.evaluate(model.eval(), "valid")
    result = fit(model, task, epochs=30, lr=0.05, clip_norm=1.0)
    assert result.best_valid < 0.5 * before
    assert result.best_valid == min(epoch.valid for epoch in result.history)
    assert result.history[result.best_epoch - 1].valid == result.best_valid
    assert task.evaluate(model, "valid") == result.best_valid and not model.training
    assert [epoch.epoch for epoch in result.history] == list(range(1, 31))
    assert result.seconds_per_epoch > 0


def test_maximize_picks_the_largest():
    class Rising(Line):
        maximize = True

        def evaluate(self, model, split):
            return -super().evaluate(model, split)

    result = fit(make_model(), Rising(), epochs=5)
    assert result.best_valid == max(epoch.valid for epoch in result.history)


def test_keeps_the_last():
    model = make_model()
    seen: list[torch.Tensor] = []

    class Worsening(Line):
        def evaluate(self, model, split):
            return float(len(seen))

    result = fit(
        model,
        Worsening(),
        epochs=3,
        keep="last",
        after_epoch=lambda _: seen.append(next(model.parameters()).clone()),
    )
    assert (result.best_epoch, result.best_valid) == (3, 2.0)
    assert torch.equal(next(model.parameters()), seen[-1])


def test_amsgrad_rests_where_the_gradient_has_shrunk():
    """Adam forgets how large it was, and takes steps of the learning rate again."""
    moved = {}
    for make in (adam, amsgrad):
        x = nn.Parameter(torch.zeros(1))
        optimizer = make([x], lr=0.1)
        for step in range(12_000):
            before = x.item()
            x.grad = torch.tensor([1.0 if step < 10 else 1e-3])
            optimizer.step()
        moved[make] = abs(x.item() - before)
    assert moved[adam] > 0.05 and moved[amsgrad] < 0.002


@pytest.mark.parametrize("maximize", [True, False])
def test_the_last_of_equally_good_epochs_is_kept(maximize):
    class Flat(Line):
        def evaluate(self, model, split):
            return 1.0

    Flat.maximize = maximize
    model = make_model()
    seen = []
    result = fit(
        model, Flat(), epochs=3, after_epoch=lambda _: seen.append(next(model.parameters()).clone())
    )
    assert result.best_epoch == 3 and torch.equal(next(model.parameters()), seen[-1])


def test_seeded_and_leaves_the_global_generator_alone():
    torch.manual_seed(11)
    model = make_model()
    before = torch.get_rng_state()
    fit(model, Line(), epochs=2, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert_same(run(), run())
    torch.rand(7)
    assert_same(run(), run())
    assert run()[1] != run(seed=4)[1]


@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
def test_resume_is_exact_after_any_epoch(tmp_path, schedule):
    whole = run(schedule=schedule)

    class Killed(Exception):
        pass

    class Dying(Line):
        epoch = 0

        def train_batches(self, generator):
            self.epoch += 1
            for step, batch in enumerate(super().train_batches(generator)):
                if (self.epoch, step) == (4, 2):
                    raise Killed
                yield batch

    path = tmp_path / "run.pt"
    with pytest.raises(Killed):
        run(path, task=Dying(), schedule=schedule)
    assert len(load_checkpoint(path)["history"]) == 3
    assert_same(run(path, resume=True, schedule=schedule), whole)
    assert_same(run(path, resume=True, schedule=schedule), whole)  # nothing left to do


def test_epochs_may_grow(tmp_path):
    path = tmp_path / "run.pt"
    run(path, epochs=3)
    assert_same(run(path, epochs=6, resume=True), run(epochs=6))


def test_resume_without_a_checkpoint_starts_afresh(tmp_path):
    assert_same(run(tmp_path / "none.pt", resume=True), run())


def test_killed_process_resumes_bit_for_bit(tmp_path):
    path = tmp_path / "run.pt"
    script = Path(__file__).with_name("line.py")
    process = subprocess.Popen([sys.executable, "-W", "ignore", str(script), str(path)])
    try:
        deadline = time.monotonic() + 120
        while not (path.exists() and len(load_checkpoint(path)["history"]) >= 2):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert len(load_checkpoint(path)["history"]) < 12
    settings = {"epochs": 12, "schedule": "one_cycle"}
    assert_same(run(path, resume=True, **settings), run(**settings))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 4}, r"seed was 3 there and is 4 now; use the same settings"),
        ({"lr": 0.1}, r"lr was 0.05 there and is 0.1 now"),
        ({"clip_norm": 1.0}, r"clip_norm was None there and is 1.0 now"),
        ({"optimizer": torch.optim.SGD}, r"optimizer was Adam .* there and is SGD .* now"),
        ({"optimizer": amsgrad}, r"optimizer was .*'amsgrad': False.* there and .*True.* now"),
        ({"schedule": "one_cycle"}, r"schedule was constant there and is one_cycle now"),
        ({"epochs": 5}, r"holds 6 epochs, more than epochs=5"),
        ({"model": make_model(9)}, r"0.bias has shape \[8\] there and \[9\] in this model"),
        (
            {"model": nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))},
            r"model 1 was Tanh\(\) there and is ReLU\(\) now",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_resume_with_other_settings(tmp_path, changed, message):
    path = tmp_path / "run.pt"
    run(path)
    with pytest.raises(CheckpointError, match=rf"(?s)cannot resume from .*run.pt: .*{message}"):
        run(path, resume=True, **changed)


class Neighbours(nn.Module):
    """A layer of PyG, whose repr does not show the aggregation; on a path of all examples."""

    def __init__(self, aggr):
        super().__init__()
        self.conv = SAGEConv((getattr(aggr, "out_channels", 1), 1), 1, aggr=aggr)

    def forward(self, x):
        order = torch.arange(len(x))
        return self.conv((x, x), torch.stack([order[:-1], order[1:]]))


def mixed(epochs):
    model = Neighbours(MixAggregation(1, hidden=4, learned=4, clocks=3))
    plan_mixes(model, Line(), epochs)
    return model


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda: Neighbours("max"), lambda: Neighbours("mean")),
        (
            lambda: Neighbours(LCMAggregation(1, 1)),
            lambda: Neighbours(LCMAggregation(1, 1, associativity=0.1)),
        ),
        (lambda: mixed(6), lambda: mixed(8)),
    ],
    ids=["aggregation", "regularizer", "phases of a mix"],
)
def test_resume_with_another_aggregation_in_a_layer(tmp_path, first, second):
    path = tmp_path / "run.pt"
    run(path, model=first())
    with pytest.raises(CheckpointError, match=r"model conv\.aggr_module was .* there and is"):
        run(path, model=second(), resume=True)


def test_resume_with_another_task(tmp_path):
    class Other(Line):
        def __repr__(self):
            return "Other()"

    path = tmp_path / "run.pt"
    run(path)
    with pytest.raises(CheckpointError, match=r"task was Line\(\) there and is Other\(\) now"):
        run(path, resume=True, task=Other())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_loss_not_finite(value):
    class Exploding(Line):
        def loss(self, model, batch):
            self.calls = getattr(self, "calls", 0) + 1
            return super().loss(model, batch) * (value if self.calls == 6 else 1)

    with pytest.raises(FloatingPointError, match=r"loss is (nan|inf) at epoch 2, batch 2"):
        run(task=Exploding())


def test_validation_not_finite():
    class Undefined(Line):
        def evaluate(self, model, split):
            return float("nan")

    with pytest.raises(FloatingPointError, match=r"validation metric is nan after epoch 1"):
        run(task=Undefined())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, r"epochs must be at least 1 \(got 0\)"),
        ({"seed": -1}, r"seed must not be negative \(got -1\)"),
        ({"schedule": "cosine"}, r"schedule must be one of constant, one_cycle \(got 'cosine'\)"),
        ({"keep": "first"}, r"keep must be one of best, last \(got 'first'\)"),
        ({"resume": True}, r"resume needs checkpoint"),
    ],
)
def test_bad_arguments(settings, message):
    with pytest.raises(ValueError, match=message):
        run(**settings)


def test_no_batches():
    class Empty(Line):
        steps_per_epoch = 0

    with pytest.raises(ValueError, match="at least one training batch"):
        run(task=Empty())


def test_after_epoch_sees_the_history_and_the_model_in_eval_mode():
    model, seen = make_model(), []
    result = fit(
        model, Line(), epochs=3, after_epoch=lambda epoch: seen.append((epoch, model.training))
    )
    assert seen == [(epoch, False) for epoch in result.history]


class Shrinking(FoldAggregation):
    """A penalty on its only weight, which no task sees."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))


class Penalised(Line):
    def loss(self, model, batch):
        model[1].penalize(model[1].weight.square())
        return super().loss(model[0], batch)

    def evaluate(self, model, split):
        return super().evaluate(model[0], split)


def test_regularisation_losses_are_minimised_and_kept_out_of_the_history():
    penalised = Shrinking(1.0)
    model = nn.ModuleList([make_model(), penalised])
    result = fit(model, Penalised(), epochs=6, lr=0.05, seed=3)
    assert penalised.weight < 0.7
    assert [epoch.loss for epoch in result.history] == [epoch["loss"] for epoch in run()[1]]


def test_a_regularisation_loss_that_is_not_finite():
    model = nn.ModuleList([make_model(), Shrinking(float("inf"))])
    with pytest.raises(FloatingPointError, match=r"loss is inf at epoch 1, batch 1"):
        fit(model, Penalised(), epochs=1)


def test_quiet_when_not_a_terminal(capfd):
    run(progress=True)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("clip_norm", [0.0, -1.0, math.nan])
def test_a_norm_that_clips_nothing(clip_norm):
    with pytest.raises(ValueError, match="clip_norm must be above 0, or None"):
        fit(nn.Linear(1, 1), Wild(), epochs=1, clip_norm=clip_norm)


class Wild:
    """One step, whose loss is a number and whose gradient is none."""

    maximize, steps_per_epoch = True, 1

    def train_batches(self, generator):
        return [torch.zeros(1, 1)]

    def loss(self, model, batch):
        return (model(batch) - model.bias).abs().sqrt().sum()  # at 0, where the slope is infinite

    def evaluate(self, model, split):
        return 1.0


def test_a_gradient_that_is_no_number_does_not_reach_the_weights():
    model = nn.Linear(1, 1)
    with pytest.raises(FloatingPointError, match="gradient's norm is nan at epoch 1, batch 1"):
        fit(model, Wild(), epochs=1, clip_norm=1.0, progress=False)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
