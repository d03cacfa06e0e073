"""``lcm-graph``: train aggregators and compare them."""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from lcm_graph import __version__
from lcm_graph.aggregators import AGGREGATIONS
from lcm_graph.study.cli import add_study
from lcm_graph.training import (
    MOLECULE_CONVS,
    Generalisation,
    MoleculeRun,
    SetModel,
    Training,
    format_table,
    generalise,
    load_checkpoint,
    mean_std,
    plot_generalisation,
    run_all,
    save_checkpoint,
    set_accuracy,
    size_tests,
    train_molecules,
    write_results,
)
from lcm_graph.training.loop import SCHEDULES

_USER_ERRORS = (ValueError, OSError, ImportError, RuntimeError, FloatingPointError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, or 2 after one line on stderr for an error of the user's, or 130
    after an interrupt, or 141 where nobody reads the output."""
    arguments = _parser().parse_args(argv)
    arguments.command_line = ["lcm-graph", *(sys.argv[1:] if argv is None else argv)]
    try:
        _check(arguments)
        arguments.run(arguments)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except _USER_ERRORS as error:
        if arguments.debug:
            raise
        print(f"lcm-graph: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("lcm-graph: interrupted", file=sys.stderr)
        return 130
    return 0


class _DefaultsFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Tells defaults where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def _parser() -> argparse.ArgumentParser:
    formatter = _DefaultsFormatter
    parser = argparse.ArgumentParser(prog="lcm-graph", description=__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"lcm-graph {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, help=text, description=text, formatter_class=formatter, allow_abbrev=False
        )
        sub.set_defaults(run=run)
        sub.add_argument("--out", type=Path, default=Path("out", name), help="folder for results")
        sub.add_argument("--seed", type=int, default=0, help="seed of the (first) run")
        sub.add_argument("--device", default="cpu", help="cpu or cuda")
        sub.add_argument("--jobs", type=int, default=1, help="models to train side by side")
        sub.add_argument("--threads", type=int, default=1, help="CPU threads per model")
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        return sub

    def training(sub: argparse.ArgumentParser, **defaults: Any) -> None:
        sub.add_argument("--epochs", type=int, default=defaults["epochs"], help="training epochs")
        sub.add_argument("--hidden", type=int, default=defaults["hidden"], help="model width")
        sub.add_argument(
            "--batch-size", type=int, default=defaults["batch_size"], help="sets or graphs per step"
        )
        sub.add_argument("--lr", type=float, default=defaults["lr"], help="(peak) learning rate")
        sub.add_argument(
            "--schedule", choices=SCHEDULES, default=defaults["schedule"], help="of lr"
        )
        sub.add_argument("--clip-norm", type=float, help="clip the gradient's norm to this")

    sub = command("generalise", _generalise, "train on small sets, test on large ones")
    sub.add_argument(
        "--aggr",
        nargs="+",
        default=["sum", "max", "gru", "lcm", "topk"],
        help=f"any of {', '.join(AGGREGATIONS)}",
    )
    sub.add_argument(
        "--train-sizes",
        nargs=2,
        type=int,
        default=[2, 16],
        metavar=("MIN", "MAX"),
        help="elements of a training set, drawn uniformly",
    )
    sub.add_argument(
        "--test-sizes",
        nargs="+",
        type=int,
        default=[4, 16, 32, 64, 200],
        help="elements of a test set, one test each",
    )
    sub.add_argument("--num-sets", type=int, default=65_536, help="number of training sets")
    training(sub, epochs=10, hidden=128, batch_size=128, lr=2e-3, schedule="one_cycle")

    sub = command("train", _train, "train on one of OGB's molecule data sets, by OGB's conventions")
    sub.set_defaults(out=None, folder=_train_folder)
    sub.add_argument("dataset", metavar="DATASET", help="OGB's name, e.g. ogbg-molhiv")
    sub.add_argument("--aggr", default="lcm", help=f"one of {', '.join(AGGREGATIONS)}")
    sub.add_argument("--readout", help="aggregation of a graph's nodes, if not --aggr as well")
    sub.add_argument("--conv", default="gin", choices=MOLECULE_CONVS, help="kind of layer")
    sub.add_argument("--root", type=Path, help="folder that holds the data set's folder")
    sub.add_argument("--download", action="store_true", help="download the data set if absent")
    sub.add_argument("--runs", type=int, default=10, help="runs, with seeds from --seed on")
    sub.add_argument("--num-layers", type=int, default=3, help="message-passing layers")
    sub.add_argument("--dropout", type=float, default=0.0, help="after every layer")
    sub.add_argument("--resume", action="store_true", help="continue from the checkpoints in --out")
    training(sub, epochs=50, hidden=64, batch_size=32, lr=1e-3, schedule="constant")

    add_study(commands, formatter)

    sub = command("demo", _demo, "a short tour: larger sets than trained on, and molecules")
    sub.set_defaults(jobs=min(2, os.cpu_count() or 1))
    return parser


def _train_folder(chosen: argparse.Namespace) -> str:
    model = [chosen.aggr]
    if chosen.readout not in (None, chosen.aggr):
        model.append(chosen.readout)
    if chosen.conv != "gin":
        model.append(chosen.conv)
    return "-".join([chosen.dataset, *model])


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what would only fail after minutes of training."""
    for option in ("aggr", "readout"):
        names = getattr(arguments, option, None) or []
        for name in [names] if isinstance(names, str) else names:
            if name not in AGGREGATIONS:
                known = ", ".join(AGGREGATIONS)
                raise ValueError(f"--{option} must be one of {known} (got {name!r})")
    for option in (
        "runs",
        "hidden",
        "num_layers",
        "epochs",
        "batch_size",
        "num_sets",
        "threads",
        "jobs",
    ):
        value = getattr(arguments, option, None)
        if value is not None and value < 1:
            raise ValueError(f"--{option.replace('_', '-')} must be at least 1 (got {value})")
    if not 0 <= getattr(arguments, "dropout", 0.0) < 1:
        raise ValueError(f"--dropout must be in [0, 1) (got {arguments.dropout})")
    for option in ("lr", "clip_norm"):
        value = getattr(arguments, option, None)
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise ValueError(f"--{option.replace('_', '-')} must be positive (got {value})")
    if arguments.seed < 0:
        raise ValueError(f"--seed must not be negative (got {arguments.seed})")
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {arguments.device}: no CUDA device here; use --device cpu")
    torch.set_num_threads(arguments.threads)  # more hardly help models this small
    format_table(["check"], [["tabulate is installed"]])  # if not, say so now
    if arguments.out is None:
        arguments.out = Path("out", arguments.folder(arguments))
    if getattr(arguments, "make_out", True):
        arguments.out.mkdir(parents=True, exist_ok=True)


def _training(arguments: argparse.Namespace) -> Training:
    return Training(
        epochs=arguments.epochs,
        lr=arguments.lr,
        batch_size=arguments.batch_size,
        hidden=arguments.hidden,
        seed=arguments.seed,
        schedule=arguments.schedule,
        clip_norm=arguments.clip_norm,
        device=arguments.device,
        progress=arguments.jobs == 1,
    )


def _generalise(arguments: argparse.Namespace) -> None:
    train_sizes = (arguments.train_sizes[0], arguments.train_sizes[1])
    settings, test_sizes = _training(arguments), sorted(set(arguments.test_sizes))
    runs = _compare_sizes(
        arguments.aggr,
        train_sizes,
        test_sizes,
        settings,
        arguments.num_sets,
        arguments.out,
        arguments.jobs,
    )
    _save(arguments, generalisation=_plain(runs))


def _compare_sizes(
    names: Sequence[str],
    train_sizes: tuple[int, int],
    test_sizes: Sequence[int],
    training: Training,
    num_sets: int,
    out: Path,
    jobs: int,
) -> dict[str, Generalisation]:
    """Train each aggregation on small sets; print, and draw, accuracy against set size."""
    tests = size_tests(test_sizes, seed=training.seed)
    runs: dict[str, Generalisation] = {}
    calls = [(name, train_sizes, tests, training, num_sets) for name in names]
    done = run_all(generalise, calls, jobs=jobs, epochs=len(calls) * training.epochs)
    for name, run in zip(names, done, strict=True):
        runs[name] = run
        line = run.accuracy.values()
        tqdm.write(f"  {name}: {', '.join(f'{value:.3f}' for value in line)}")
    accuracy = {name: run.accuracy for name, run in runs.items()}
    accuracy["most common answer"] = {sets.max_size: sets.trivial_accuracy() for sets in tests}
    rows = [[name, *line.values()] for name, line in accuracy.items()]
    for row, run in zip(rows, runs.values(), strict=False):
        row += [run.parameters, run.seconds_per_epoch]
    print(f"\n2nd minimum: accuracy by set size, trained on {train_sizes[0]}-{train_sizes[1]}")
    print(format_table(["aggregation", *test_sizes, "parameters", "s/epoch"], rows), flush=True)
    figure = out / "generalisation.png"
    plot_generalisation(figure, accuracy, train_sizes)
    print(f"figure: {figure}\n")
    return runs


def _train(arguments: argparse.Namespace) -> None:
    from lcm_graph.datasets import load_molecules

    if not arguments.resume and (kept := sorted(arguments.out.glob("*-seed*.pt"))):
        raise ValueError(
            f"{arguments.out} holds runs already ({kept[0].name}): go on with them with --resume, "
            "or name another folder with --out"
        )
    molecules = load_molecules(arguments.dataset, arguments.root, download=arguments.download)
    print(molecules, flush=True)
    runs = _train_runs(
        molecules,
        arguments.aggr,
        _training(arguments),
        arguments.runs,
        num_layers=arguments.num_layers,
        dropout=arguments.dropout,
        conv=arguments.conv,
        readout=arguments.readout,
        out=arguments.out,
        resume=arguments.resume,
        jobs=arguments.jobs,
    )
    print(f"\n{molecules.name}: {molecules.metric} at the epoch that was kept")
    print(_molecule_table({arguments.aggr: runs}), flush=True)
    _save(arguments, molecules={arguments.aggr: _plain_runs(molecules.metric, runs)})


def _train_runs(
    molecules: Any,
    aggr: str,
    training: Training,
    runs: int,
    *,
    num_layers: int,
    dropout: float,
    conv: str = "gin",
    readout: str | None = None,
    out: Path | None = None,
    resume: bool = False,
    jobs: int = 1,
) -> list[MoleculeRun]:
    done = []
    calls = []
    for seed in range(training.seed, training.seed + runs):
        checkpoint = None if out is None else out / f"{aggr}-seed{seed}.pt"
        settings = replace(training, seed=seed)
        model = (num_layers, dropout, conv, readout)
        calls.append((molecules, aggr, settings, *model, checkpoint, resume))
    for run in run_all(train_molecules, calls, jobs=jobs, epochs=runs * training.epochs):
        tqdm.write(
            f"  {aggr}, seed {run.seed}: validation {run.valid:.4f}, test {run.test:.4f} "
            f"(epoch {run.best_epoch})"
        )
        done.append(run)
    return done


def _molecule_table(runs: dict[str, list[MoleculeRun]]) -> str:
    rows = [
        [
            name,
            mean_std([run.valid for run in done]),
            mean_std([run.test for run in done]),
            len(done),
            done[0].parameters,
            sum(run.seconds_per_epoch for run in done) / len(done),
        ]
        for name, done in runs.items()
    ]
    return format_table(
        ["aggregation", "validation", "test", "runs", "parameters", "s/epoch"], rows
    )


# What `make demo` trains with: chosen for two CPU cores and five minutes, the same for all models.
_DEMO_SETS = Training(
    epochs=10, lr=8e-3, batch_size=128, hidden=64, schedule="one_cycle", clip_norm=1.0
)
_DEMO_NUM_SETS = 65_536
_DEMO_MOLECULES = Training(
    epochs=20, lr=3e-3, batch_size=32, hidden=64, schedule="one_cycle", clip_norm=1.0
)


def _demo(arguments: argparse.Namespace) -> None:
    from lcm_graph.datasets import load_molecules
    from lcm_graph.datasets.molecules import BUNDLED

    molecules = load_molecules(BUNDLED)
    print("1. Train on sets of 2-16 numbers, test on 4-200: which is the second smallest?")
    jobs = arguments.jobs
    chosen = {"seed": arguments.seed, "device": arguments.device, "progress": jobs == 1}
    on_sets = replace(_DEMO_SETS, **chosen)
    sizes = [4, 16, 32, 64, 200]
    names = ["sum", "max", "gru", "lcm", "topk"]
    runs = _compare_sizes(names, (2, 16), sizes, on_sets, _DEMO_NUM_SETS, arguments.out, jobs)
    _reload(runs["lcm"], on_sets, arguments.out / "lcm.pt")

    print("2. Predict hydration free energies of molecules (FreeSolv, kcal/mol)")
    on_molecules = replace(_DEMO_MOLECULES, **chosen)
    scores = {
        name: _train_runs(molecules, name, on_molecules, 3, num_layers=3, dropout=0.1, jobs=jobs)
        for name in ("sum", "lcm")
    }
    print(f"\n{molecules.name}: {molecules.metric}, lower is better")
    print(_molecule_table(scores), flush=True)
    _save(
        arguments,
        generalisation=_plain(runs),
        molecules={name: _plain_runs(molecules.metric, done) for name, done in scores.items()},
        training={"generalisation": asdict(on_sets), "molecules": asdict(on_molecules)},
    )


def _reload(run: Generalisation, training: Training, path: Path) -> None:
    """Save a trained model, load it into a fresh one, and check that it answers the same."""
    save_checkpoint(path, {"model": run.model.state_dict()})
    fresh = SetModel("lcm", hidden=training.hidden).to(training.device)
    fresh.load_state_dict(load_checkpoint(path)["model"])
    size, expected = next(iter(run.accuracy.items()))
    (sets,) = size_tests([size], seed=training.seed)
    if set_accuracy(fresh, sets) != expected:
        raise RuntimeError(f"the model reloaded from {path} answers otherwise than the saved one")
    print(f"model: {path} (reloaded: same accuracy at size {size})\n", flush=True)


def _plain(runs: dict[str, Generalisation]) -> dict[str, Any]:
    return {
        name: {
            key: getattr(run, key)
            for key in ("accuracy", "valid", "best_epoch", "parameters", "seconds_per_epoch")
        }
        for name, run in runs.items()
    }


def _plain_runs(metric: str, runs: list[MoleculeRun]) -> dict[str, Any]:
    return {"metric": metric, "runs": [asdict(run) for run in runs]}


def _save(arguments: argparse.Namespace, **results: Any) -> None:
    path = arguments.out / "results.json"
    hidden = ("run", "folder", "command_line", "debug")
    settings = {key: value for key, value in vars(arguments).items() if key not in hidden}
    write_results(path, command=arguments.command_line, settings=settings, results=results)
    print(f"results: {path}\ncommand: {shlex.join(arguments.command_line)}")


if __name__ == "__main__":
    sys.exit(main())
