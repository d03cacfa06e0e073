"""Compare aggregations over seeds: the frame of the scripts that do."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lcm_graph.aggregators import AGGREGATIONS
from lcm_graph.training.experiments import count_parameters
from lcm_graph.training.loop import fit
from lcm_graph.training.protocol import Task
from lcm_graph.training.report import format_table, mean_std, write_results
from lcm_graph.training.run_files import run_missing

Results = dict[str, list[dict[str, Any]]]


def comparison_parser(
    description: str | None, *, aggr: Sequence[str], runs: int, epochs: int, out: str
) -> argparse.ArgumentParser:
    """The options that such scripts share.

    Args:
        description: what the script does.
        aggr: default of ``--aggr``.
        runs: default of ``--runs``.
        epochs: default of ``--epochs``.
        out: default of ``--out``.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--aggr", nargs="+", default=list(aggr), choices=AGGREGATIONS, metavar="AGGR",
        help=f"any of {', '.join(AGGREGATIONS)}",
    )  # fmt: skip
    parser.add_argument("--runs", type=int, default=runs, help="runs, with seeds 0, 1, …")
    parser.add_argument("--epochs", type=int, default=epochs, help="training epochs")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, a thread each")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, default=Path(out), help="folder for results")
    parser.add_argument("--smoke", action="store_true", help="see that it runs: seconds")
    return parser


def compare(
    function: Callable[..., Mapping[str, Any]],
    args: argparse.Namespace,
    settings: Mapping[str, Any],
    columns: Mapping[str, Callable[[Mapping[str, Any]], float]],
) -> Results:
    """Run ``function`` for each aggregation and seed, print a table, write ``results.json``.

    Runs that are in ``--out`` already are not run again. Each has one thread.

    Args:
        function: called with ``aggr``, ``seed``, ``epochs``, ``device`` and ``settings`` as
            keywords; gives what JSON can hold. It is a module's own function, which pickles.
        args: what :func:`comparison_parser` gives.
        settings: what else the result follows from.
        columns: heading -> number of a run's result; mean and standard deviation are printed.

    Returns:
        Aggregation -> results, seed by seed.

    Raises:
        ValueError: an option is out of range, or a run in ``--out`` was made with other settings.
    """
    for option in ("runs", "epochs", "jobs"):
        if getattr(args, option) < 1:
            raise ValueError(f"--{option} must be at least 1 (got {getattr(args, option)})")
    common = {"epochs": args.epochs, "device": args.device, **settings}
    runs = {
        f"{aggr}--{seed}": {"aggr": aggr, "seed": seed, **common}
        for aggr in args.aggr
        for seed in range(args.runs)
    }

    def described(name: str, result: Mapping[str, Any]) -> str:
        found = ", ".join(f"{title} {column(result):.4g}" for title, column in columns.items())
        return f"  {name}: {found}"

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        done = run_missing(function, runs, args.out / "runs", jobs=args.jobs, describe=described)
    finally:
        torch.set_num_threads(threads)
    results: Results = {
        aggr: [done[f"{aggr}--{seed}"] for seed in range(args.runs)] for aggr in args.aggr
    }
    rows = [
        [aggr, *(mean_std([column(result) for result in mine]) for column in columns.values())]
        for aggr, mine in results.items()
    ]
    print(format_table(["aggregation", *columns], rows), flush=True)
    write_results(
        args.out / "results.json",
        command=["python", *sys.argv],
        settings={"aggr": args.aggr, "runs": args.runs, "jobs": args.jobs, **common},
        results=results,
    )
    return results


def fit_and_test(
    model: nn.Module, task: Task, *, epochs: int, lr: float, seed: int, device: str
) -> dict[str, Any]:
    """Train as these scripts do (one cycle of the learning rate, gradients clipped at a norm of 1)
    and test at the best validation epoch.

    Returns:
        ``valid``, ``test``, ``best_epoch``, ``parameters`` and ``seconds_per_epoch``.
    """
    result = fit(
        model,
        task,
        epochs=epochs,
        lr=lr,
        schedule="one_cycle",
        clip_norm=1.0,
        seed=seed,
        device=device,
    )
    return {
        "valid": result.best_valid,
        "test": task.evaluate(model, "test"),
        "best_epoch": result.best_epoch,
        "parameters": count_parameters(model),
        "seconds_per_epoch": result.seconds_per_epoch,
    }


COLUMNS: dict[str, Callable[[Mapping[str, Any]], float]] = {
    "validation": lambda result: result["valid"],
    "test": lambda result: result["test"],
    "parameters": lambda result: result["parameters"],
    "s/epoch": lambda result: result["seconds_per_epoch"],
}
"""What :func:`fit_and_test` gives, as columns for :func:`compare`."""
