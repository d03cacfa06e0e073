"""``lcm-graph study``: its arguments, and what it does with them."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from lcm_graph.study.config_file import PRESETS, read_config
from lcm_graph.study.report import write_report
from lcm_graph.study.run import run_study
from lcm_graph.study.subjects import SUBJECTS
from lcm_graph.training.report import import_extra


def add_study(commands: Any, formatter: type[argparse.HelpFormatter]) -> None:
    """Add the command to a parser's."""
    text = "train many aggregations on many set functions, compare them, go on after a kill"
    sub = commands.add_parser(
        "study", help=text, description=text, formatter_class=formatter, allow_abbrev=False
    )
    sub.add_argument(
        "--config", default="quick", help=f"{', '.join(PRESETS)}, or a JSON file: what to run"
    )
    sub.add_argument(
        "--out", type=Path, help="folder for runs, tables and figures (default: out/study-CONFIG)"
    )
    sub.add_argument("--jobs", type=int, help="runs side by side, if not as the configuration says")
    sub.add_argument("--tasks", nargs="+", help="only these: the configuration's, or set functions")
    sub.add_argument("--subjects", nargs="+", help=f"only these, of {', '.join(SUBJECTS)}")
    sub.add_argument("--seeds", nargs="+", type=int, help="only these")
    sub.add_argument(
        "--report-only",
        action="store_true",
        help="train nothing, report on what is there",
    )
    sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
    sub.set_defaults(run=_study, folder=_folder, seed=0, device="cpu", threads=1, make_out=False)


def _folder(arguments: argparse.Namespace) -> str:
    return f"study-{Path(arguments.config).stem}"


def _study(arguments: argparse.Namespace) -> None:
    import_extra("matplotlib")  # if it is not installed, say so now
    config = read_config(arguments.config)
    config = config.narrowed(arguments.tasks, arguments.subjects, arguments.seeds)
    if arguments.jobs is not None:
        config = replace(config, jobs=arguments.jobs)
    out = arguments.out
    command = [word for word in arguments.command_line if word != "--report-only"]  # of the runs
    if not arguments.report_only:
        run_study(config, out)
    print(f"\n{write_report(config, out, command)}")
    print(f"report: {out / 'report.md'}\nresults: {out / 'results.json'}")
    print(f"command: {shlex.join(command)}")
