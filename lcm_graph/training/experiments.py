"""The two experiments that the command line runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch_geometric.nn import PNAConv

from lcm_graph.datasets import IntegerSets, Molecules
from lcm_graph.training.loop import fit
from lcm_graph.training.mixes import plan_mixes
from lcm_graph.training.models import MoleculeGNN, SetModel
from lcm_graph.training.tasks import MoleculeTask, SetTask, set_accuracy

# Seeds of the data sets, apart from each other and from a user's own.
_VALID_SEED, _TEST_SEED = 1_000_000, 2_000_000


@dataclass(frozen=True)
class Training:
    """How to train; see :func:`lcm_graph.training.fit`."""

    epochs: int
    lr: float
    batch_size: int
    hidden: int
    seed: int = 0
    schedule: str = "constant"
    clip_norm: float | None = None
    device: str = "cpu"
    progress: bool = True


@dataclass(frozen=True)
class Generalisation:
    """Accuracy of one aggregation on sets of several sizes.

    Attributes:
        accuracy: set size -> fraction of test sets with all bits right.
        best_epoch: epoch (from 1) whose weights were tested.
        valid: validation accuracy of that epoch, on sets of twice the largest training size.
        parameters: number of trainable parameters.
        seconds_per_epoch: median training time.
        model: the trained model.
    """

    accuracy: dict[int, float]
    best_epoch: int
    valid: float
    parameters: int
    seconds_per_epoch: float
    model: SetModel = field(repr=False)


def size_tests(sizes: Sequence[int], *, num_sets: int = 1024, seed: int = 0) -> list[IntegerSets]:
    """One 2nd-minimum test set per size, ``num_sets`` sets each."""
    return [
        IntegerSets("second_minimum", num_sets, size, size, seed=_TEST_SEED + 1000 * seed + size)
        for size in sizes
    ]


def generalise(
    aggr: str,
    train_sizes: tuple[int, int],
    tests: Sequence[IntegerSets],
    training: Training,
    num_sets: int = 65_536,
) -> Generalisation:
    """Train on the 2nd minimum of small sets, test on sets of other sizes.

    Args:
        aggr: name of the aggregation.
        train_sizes: smallest and largest size to train on; validation sets have twice the largest.
        tests: data sets of one size each, see :func:`size_tests`.
        training: how to train.
        num_sets: number of training sets.

    Source: Ong and Veličković (2022), section 3.1 and appendix F: 65,536 training sets, 1,024
    validation sets of size 32 for training sizes up to 16. Singletons, which have no 2nd minimum,
    are left out; the training is shorter.
    """
    seed, valid_size = training.seed, 2 * train_sizes[1]
    task = SetTask(
        IntegerSets("second_minimum", num_sets, *train_sizes, seed=seed),
        IntegerSets("second_minimum", 1024, valid_size, valid_size, seed=_VALID_SEED + seed),
        batch_size=training.batch_size,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SetModel(aggr, hidden=training.hidden)
    keep = plan_mixes(model, task, training.epochs)
    result = fit(
        model,
        task,
        epochs=training.epochs,
        lr=training.lr,
        schedule=training.schedule,
        clip_norm=training.clip_norm,
        seed=seed,
        device=training.device,
        progress=training.progress,
        keep=keep,
    )
    return Generalisation(
        accuracy={sets.max_size: set_accuracy(model, sets) for sets in tests},
        best_epoch=result.best_epoch,
        valid=result.best_valid,
        parameters=count_parameters(model),
        seconds_per_epoch=result.seconds_per_epoch,
        model=model,
    )


@dataclass(frozen=True)
class MoleculeRun:
    """One training run: OGB's metric at the best validation epoch, and what it took."""

    seed: int
    valid: float
    test: float
    best_epoch: int
    parameters: int
    seconds_per_epoch: float


def train_molecules(
    molecules: Molecules,
    aggr: str,
    training: Training,
    num_layers: int = 3,
    dropout: float = 0.0,
    conv: str = "gin",
    readout: str | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> MoleculeRun:
    """Train :class:`MoleculeGNN` once and score it, by OGB's conventions."""
    task = MoleculeTask(molecules, batch_size=training.batch_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        model = MoleculeGNN(
            aggr,
            hidden=training.hidden,
            num_layers=num_layers,
            num_tasks=molecules.num_tasks,
            dropout=dropout,
            readout=readout,
            conv=conv,
            degree=PNAConv.get_degree_histogram(molecules.subset("train")),
        )
    keep = plan_mixes(model, task, training.epochs)
    result = fit(
        model,
        task,
        epochs=training.epochs,
        lr=training.lr,
        schedule=training.schedule,
        clip_norm=training.clip_norm,
        seed=training.seed,
        checkpoint=checkpoint,
        resume=resume,
        device=training.device,
        progress=training.progress,
        keep=keep,
    )
    return MoleculeRun(
        seed=training.seed,
        valid=result.best_valid,
        test=task.evaluate(model, "test"),
        best_epoch=result.best_epoch,
        parameters=count_parameters(model),
        seconds_per_epoch=result.seconds_per_epoch,
    )


def count_parameters(model: torch.nn.Module) -> int:
    """``sum(p.numel() for p in model.parameters())``, as OGB counts."""
    return sum(parameter.numel() for parameter in model.parameters())
