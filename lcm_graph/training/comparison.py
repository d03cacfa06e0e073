"""Compare aggregations over seeds: the frame of the scripts that do."""

from __future__ import annotations

import argparse
import copy
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lcm_graph.aggregators import AGGREGATIONS, BASELINES, regularization
from lcm_graph.training.experiments import count_parameters
from lcm_graph.training.loop import fit, without_addresses
from lcm_graph.training.mixes import plan_mixes
from lcm_graph.training.peak_memory import peak_memory
from lcm_graph.training.protocol import Task
from lcm_graph.training.report import format_table, mean_std, write_results
from lcm_graph.training.run_files import read_run, run_missing

Results = dict[str, list[dict[str, Any]]]

_OF_MEMORY = "can't allocate memory"  # what torch's RuntimeError on CPU says


def comparison_parser(
    description: str | None,
    *,
    aggr: Sequence[str],
    runs: int,
    epochs: int,
    known: Sequence[str] = (*AGGREGATIONS, *BASELINES),
) -> argparse.ArgumentParser:
    """The options that such scripts share.

    Args:
        description: what the script does.
        aggr: default of ``--aggr``.
        runs: default of ``--runs``.
        epochs: default of ``--epochs``.
        known: what ``--aggr`` may name.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--aggr", nargs="+", default=list(aggr), choices=known, metavar="AGGR",
        help=f"any of {', '.join(known)}",
    )  # fmt: skip
    parser.add_argument("--runs", type=int, default=runs, help="runs, with seeds 0, 1, …")
    parser.add_argument("--epochs", type=int, default=epochs, help="training epochs")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, a thread each")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--out", type=Path, default=argparse.SUPPRESS,
        help="folder for results (default: one in out/, named after what is compared)",
    )  # fmt: skip
    parser.add_argument("--smoke", action="store_true", help="see that it runs: seconds")
    return parser


def compare(
    function: Callable[..., Mapping[str, Any]],
    args: argparse.Namespace,
    settings: Mapping[str, Any],
    columns: Mapping[str, Callable[[Mapping[str, Any]], float]],
    *,
    name: str,
) -> Results:
    """Run ``function`` for each aggregation and seed, print a table, write ``results.json``.

    Runs that are in ``--out`` already are not run again, and those of aggregations that are not
    asked for are told of; what they ran on stands beside each in
    ``results.json``. Each has one thread. One that fails, for want of memory or because its loss
    is no number, has a message for a result, and the others go on; it is tried again if its file
    in ``--out`` is deleted. Other errors are raised.

    Args:
        function: called with ``aggr``, ``seed``, ``epochs``, ``device`` and ``settings`` as
            keywords; gives what JSON can hold. It is a module's own function, which pickles.
        args: what :func:`comparison_parser` gives.
        settings: what else the result follows from.
        columns: heading -> number of a run's result; mean and standard deviation are printed.
        name: of the folder in ``out/``, if ``--out`` is not given: what runs must not be mixed.

    Returns:
        Aggregation -> results, seed by seed; ``{"failed": message}`` of one that failed.

    Raises:
        SystemExit: an option is out of range, a run in ``--out`` was made with other settings or
            other data, data are missing or damaged, or ``function`` raised another ValueError.
    """
    for option in ("runs", "epochs", "jobs"):
        if getattr(args, option) < 1:
            raise SystemExit(f"--{option} must be at least 1 (got {getattr(args, option)})")
    try:
        torch.empty(0, device=args.device)
    except (AssertionError, RuntimeError) as error:
        raise SystemExit(
            f"--device must be one that torch has (got {args.device}): {error}"
        ) from error
    out = getattr(args, "out", Path("out", f"{name}-smoke" if args.smoke else name))
    if args.smoke and not hasattr(args, "out"):  # to see that it runs, not that it has run
        shutil.rmtree(out, ignore_errors=True)
    common = {"epochs": args.epochs, "device": args.device, **settings}
    runs = {
        f"{aggr}--{seed}": {"aggr": aggr, "seed": seed, **common}
        for aggr in args.aggr
        for seed in range(args.runs)
    }

    def described(run: str, result: Mapping[str, Any]) -> str:
        if "failed" in result:
            return f"  {run}: failed: {result['failed']}"
        found = ", ".join(f"{title} {column(result):.4g}" for title, column in columns.items())
        return f"  {run}: {found}"

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        others = _others(out / "runs", runs, common)
        tried = partial(_tried, function)
        done = run_missing(tried, runs, out / "runs", jobs=args.jobs, describe=described)
    except (OSError, ValueError) as error:  # no such data, a damaged file, other settings
        raise SystemExit(f"{Path(sys.argv[0]).name}: {error}") from error
    finally:
        torch.set_num_threads(threads)
    results: Results = {
        aggr: [done[f"{aggr}--{seed}"].result for seed in range(args.runs)] for aggr in args.aggr
    }
    _check_one_task(results, out / "runs")
    print(format_table(["aggregation", *columns], _rows(results, columns)))
    commits = {str(done[run].environment.get("commit")) for run in runs}
    if len(commits) > 1:
        print(f"the runs are of several commits: {', '.join(sorted(commits))}")
    if others:
        print(f"in {out} are {', '.join(others)} too: to have all in one table, name all in --aggr")
    for message in dict.fromkeys(
        run["failed"] for mine in results.values() for run in mine if "failed" in run
    ):
        print(f"failed: {message}")
    sys.stdout.flush()
    write_results(
        out / "results.json",
        command=["python", *sys.argv],
        settings={"aggr": args.aggr, "runs": args.runs, "jobs": args.jobs, **common},
        results={
            "runs": {aggr: [_short(run) for run in mine] for aggr, mine in results.items()},
            "environments": {
                aggr: [done[f"{aggr}--{seed}"].environment for seed in range(args.runs)]
                for aggr in args.aggr
            },
        },
    )
    return results


def _short(run: Mapping[str, Any]) -> dict[str, Any]:
    """Without the history, several lines an epoch, which the run's own file keeps."""
    return {key: value for key, value in run.items() if key != "history"}


def _others(
    folder: Path, runs: Mapping[str, Mapping[str, Any]], common: Mapping[str, Any]
) -> list[str]:
    """Aggregations that have runs in a folder and are not asked for.

    Raises:
        ValueError: one was made with other settings: a folder holds one comparison.
    """
    asked = {run["aggr"] for run in runs.values()}
    found = []
    for path in sorted(folder.glob("*--*.json")):
        aggr, _, seed = path.stem.rpartition("--")
        if aggr in asked or not seed.isdigit():
            continue
        settings = json.loads(json.dumps({"aggr": aggr, "seed": int(seed), **common}))
        if read_run(path, settings) is not None and aggr not in found:
            found.append(aggr)
    return found


def _check_one_task(results: Results, folder: Path) -> None:
    """Aggregations are compared on the same data, also where some runs were kept and some not.

    Raises:
        SystemExit: two of one seed were not.
    """
    first: dict[int, tuple[str, str]] = {}
    for aggr, mine in results.items():
        for seed, run in enumerate(mine):
            if "task" not in run:
                continue
            other, task = first.setdefault(seed, (aggr, run["task"]))
            if run["task"] != task:
                raise SystemExit(
                    f"{folder}: runs of seed {seed} must be of the same data; {other} had {task}, "
                    f"{aggr} had {run['task']}. Delete the files of those that are out of date"
                )


def _tried(function: Callable[..., Mapping[str, Any]], **settings: Any) -> Mapping[str, Any]:
    try:
        result = function(**settings)
    except (torch.OutOfMemoryError, MemoryError, FloatingPointError) as error:
        return _failure(error)
    except RuntimeError as error:
        if _OF_MEMORY not in str(error):
            raise
        return _failure(error)
    try:
        json.dumps(result, allow_nan=False)
    except ValueError as error:  # a number of the result is none
        return _failure(error)
    return result


def _failure(error: Exception) -> dict[str, str]:
    """The result of a run that failed, which is not tried again before its file is deleted."""
    first = (str(error).splitlines() or [""])[0]
    return {"failed": f"{type(error).__name__}: {first}"}


def _rows(
    results: Results, columns: Mapping[str, Callable[[Mapping[str, Any]], float]]
) -> list[list[str]]:
    """A row for each aggregation, of the runs that did not fail."""
    rows = []
    for aggr, mine in results.items():
        done = [result for result in mine if "failed" not in result]
        if not done:
            rows.append([aggr, "failed", *[""] * (len(columns) - 1)])
            continue
        name = aggr if len(done) == len(mine) else f"{aggr} ({len(done)} of {len(mine)} runs)"
        cells = (mean_std([column(result) for result in done]) for column in columns.values())
        rows.append([name, *cells])
    return rows


def fit_and_test(
    model: nn.Module, task: Task, *, epochs: int, lr: float, seed: int, device: str
) -> dict[str, Any]:
    """Train as these scripts do (one cycle of the learning rate, gradients clipped at a norm of 1)
    and test at the best validation epoch.

    A mix chooses its factors in the first half of training; of a model that holds one, the last
    epoch is tested (:func:`plan_mixes`).

    Returns:
        ``valid``, ``test``, ``best_epoch`` (which is tested), ``parameters``, ``seconds_per_epoch``
        and ``step_mib``, see :func:`step_memory`; the ``task``, which names its data; and the
        ``history``, training loss and validation metric of each epoch.
    """
    keep = plan_mixes(model, task, epochs)
    memory = step_memory(model.to(device), task, seed=seed, device=device)
    result = fit(
        model,
        task,
        epochs=epochs,
        lr=lr,
        schedule="one_cycle",
        clip_norm=1.0,
        seed=seed,
        device=device,
        keep=keep,
    )
    return {
        "valid": result.best_valid,
        "test": task.evaluate(model, "test"),
        "best_epoch": result.best_epoch,
        "parameters": count_parameters(model),
        "seconds_per_epoch": result.seconds_per_epoch,
        "step_mib": memory / 2**20,
        "task": without_addresses(task),
        "history": [[epoch.loss, epoch.valid] for epoch in result.history],
    }


def step_memory(
    model: nn.Module, task: Task, *, seed: int = 0, device: str | torch.device = "cpu"
) -> int:
    """By how many bytes memory grows at most in a training step: forward and backward, beside
    model and optimizer.

    Of one batch, once more after it has been done unmeasured, by a copy of the model. On CUDA, with
    the batch.
    """
    model = copy.deepcopy(model).train()
    with torch.random.fork_rng(devices=[device] if torch.device(device).type == "cuda" else []):
        torch.manual_seed(seed)
        for _ in range(2):
            batch = next(iter(task.train_batches(torch.Generator().manual_seed(seed))))
            model.zero_grad(set_to_none=True)
            with peak_memory(device) as peak:
                (task.loss(model, batch) + regularization(model)).backward()
    return peak.growth


COLUMNS: dict[str, Callable[[Mapping[str, Any]], float]] = {
    "validation": lambda result: result["valid"],
    "test": lambda result: result["test"],
    "of epoch": lambda result: result["best_epoch"],
    "parameters": lambda result: result["parameters"],
    "s/epoch": lambda result: result["seconds_per_epoch"],
    "MiB/step": lambda result: result["step_mib"],
}
"""What :func:`fit_and_test` gives, as columns for :func:`compare`."""
