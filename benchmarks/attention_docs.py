"""Put the figures of attention into the page of docs that tells of it, and draw some of them.

python -m benchmarks.attention_docs
"""

from __future__ import annotations

import json
import math
import shlex
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.marks import NOT_MEASURED, fill_marks, markdown_table
from benchmarks.measure import RESULTS
from lcm_graph.training import mean_std, plot_lines

PAGE = Path(__file__).parent.parent / "docs" / "attention.md"
Result = dict[str, Any]  # what a benchmark or an example wrote


def main() -> None:
    """Rewrite what is between the page's marks, and the pictures beside it."""
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    for name, draw in PICTURES.items():
        path = _path(name)
        if path.exists():
            draw(json.loads(path.read_text("utf-8")))


def fill(text: str) -> str:
    """Put the block between the marks ``<!-- benchmark block -->`` and ``<!-- / -->``.

    Raises:
        ValueError: there is no such block.
    """

    def render(name: str, block: str) -> str:
        if (name, block) not in BLOCKS:
            known = ", ".join(" ".join(mark) for mark in BLOCKS)
            raise ValueError(f"a mark must be one of {known} (got '{name} {block}')")
        path = _path(name)
        if not path.exists():
            return NOT_MEASURED
        return BLOCKS[name, block](json.loads(path.read_text("utf-8")))

    return fill_marks(text, render)


def _path(name: str) -> Path:
    """A benchmark's results, or an example's, which are kept with the page."""
    path = RESULTS / f"{name}.json"
    return path if path.exists() else PAGE.with_suffix("") / name / "results.json"


def source(result: Result) -> str:
    """The command, and what it ran on."""
    found = result["environment"]
    return (
        f"`{found['command']}` ({found['processor']}, {found['torch_threads']} threads; torch "
        f"{found['torch']}; commit `{found['commit']}`):"
    )


def example_source(result: Result) -> str:
    """The command of an example."""
    return f"`{shlex.join(result['command'])}`:"


def lost(kind: str) -> Callable[[Result], str]:
    """Errors of each way to choose, and of what becomes of the rest."""

    def render(result: Result) -> str:
        errors = result["errors"][kind]
        fractions = list(next(iter(errors.values())))
        rows = [["chosen by", "the rest", *(f"{float(f):.0%}" for f in fractions)]]
        for selector, by in errors.items():
            for tail in ("drop", "summary", "summary, order 2", "sample"):
                means = (statistics.fmean(by[fraction][tail]) for fraction in fractions)
                rows.append([selector, tail, *(f"{mean:.3f}" for mean in means)])
        means = (statistics.fmean(result["hyper"][kind][fraction]) for fraction in fractions)
        rows.append(["HyperAttention", "sample", *(f"{mean:.3f}" for mean in means)])
        return markdown_table(rows)

    return render


def identity(result: Result) -> str:
    """How far the error is from what the identity says."""
    return (
        "Over all rows that drop the rest the two differ by at most "
        f"{result['identity']:.0e}, in float64."
    )


def recall(result: Result) -> str:
    """Keys that matter, found flat and through coarse clusters."""
    by_length = result["recall"]
    first = next(iter(by_length.values()))[0]
    rows = [["keys", *first]]
    for n, each in by_length.items():
        means = {what: statistics.fmean(one[what] for one in each) for what in first}
        cells = (
            f"{mean:,.0f}" if what.startswith("centroids") else f"{mean:.3f}"
            for what, mean in means.items()
        )
        rows.append([f"{int(n):,}", *cells])
    return markdown_table(rows)


def milliseconds(kind: str) -> Callable[[Result], str]:
    """Times by length, and how they grow."""

    def render(result: Result) -> str:
        by_name = result["seconds"][kind]
        lengths = list(next(iter(by_name.values())))
        rows = [["", *(f"{int(n):,}" for n in lengths), "exponent"]]
        for name, seconds in by_name.items():
            times = (f"{1e3 * seconds[n]:,.1f}" for n in lengths)
            rows.append([name, *times, f"{result['exponents'][kind][name]:.2f}"])
        if kind == "decode":
            building = (f"{1e3 * result['building_seconds'][n]:,.0f}" for n in lengths)
            rows.append(["building the index", *building, ""])
        return markdown_table(rows)

    return render


def errors_by_length(result: Result) -> str:
    """Of the answers whose times stand above."""
    by_name = result["errors"]
    lengths = list(next(iter(by_name.values())))
    rows = [["", *(f"{int(n):,}" for n in lengths)]]
    rows += [[name, *(f"{by[n]:.3f}" for n in lengths)] for name, by in by_name.items()]
    return markdown_table(rows)


def polynomial_errors(result: Result) -> str:
    """By bound of the entries and degree."""
    rows = [["entries up to", "degree", "largest error", "median", "promised"]]
    for row in result["errors"]:
        errors = (f"{row[what]:.1e}" for what in ("out", "out_median", "out_bound"))
        rows.append([f"{row['entries']:g}", f"{row['degree']:g}", *errors])
    return markdown_table(rows)


def growth(result: Result) -> str:
    """Exponents of time."""
    rows = [["", "", "lengths", "shortest", "longest", "exponent", "of the last two"]]
    for row in result["times"]:
        lengths = list(row["seconds"])
        ends = (f"{1e3 * row['seconds'][n]['min']:.1f} ms" for n in (lengths[0], lengths[-1]))
        exponents = (f"{row[what]:.2f}" for what in ("exponent", "exponent_of_last_two"))
        span = f"{int(lengths[0]):,}–{int(lengths[-1]):,}"
        rows.append([row["method"], row["mode"], span, *ends, *exponents])
    return markdown_table(rows)


def three_tokens(result: Result) -> str:
    """Accuracy by form of attention and task, and of answers that need less."""
    runs, tasks = result["results"], result["settings"]["tasks"]
    rows = [["", *tasks]]
    for form in result["settings"]["forms"]:
        mine = ([run for name, run in runs.items() if name.startswith(f"{task}--{form}--")]
                for task in tasks)  # fmt: skip
        rows.append([f"`{form}`", *(mean_std([run["test"] for run in some]) for some in mine)])
    baselines = {name: None for task in tasks for name in runs[f"{task}--baselines"]}
    for name in baselines:
        constants = (runs[f"{task}--baselines"].get(name) for task in tasks)
        rows.append([name, *("" if one is None else f"{one:.3f}" for one in constants)])
    return markdown_table(rows)


def prefix_errors(result: Result) -> str:
    """By way to have a prefix as a state, and by its length."""
    by_length = result["errors"]
    rows = [["", *(f"{int(m):,} tokens" for m in by_length)]]
    for name in next(iter(by_length.values()))[0]:
        medians = (statistics.median(one[name] for one in each) for each in by_length.values())
        rows.append([name, *(f"{median:.3f}" for median in medians)])
    return markdown_table(rows)


def perplexity(result: Result) -> str:
    """By length of the context."""
    by_length = result["losses"]
    rows = [["", *(f"{int(n):,} tokens" for n in by_length)]]
    for name in next(iter(by_length.values())):
        cells = []
        for found in by_length.values():
            (mine,), (full,) = found[name].values(), found["full"].values()
            cells.append(_perplexity(mine, full))
        rows.append([name, *cells])
    return markdown_table(rows)


def perplexity_by_budget(result: Result) -> str:
    """Of one length, by what is kept."""
    by_policy = result["losses_by_budget"]
    (full,) = by_policy["full"].values()
    budgets = list(next(by for name, by in by_policy.items() if name != "full"))
    rows = [["", *(f"{float(fraction):.0%}" for fraction in budgets)]]
    for name, by in by_policy.items():
        cells = (_perplexity(by.get(fraction, full), full) for fraction in budgets)
        rows.append([name, *cells])
    return markdown_table(rows)


def _perplexity(losses: list[float], full: list[float]) -> str:
    """With what it is above that of all keys, in nats, and the standard error over passages."""
    perplexity = f"{math.exp(statistics.fmean(losses)):.1f}"
    if losses == full:
        return perplexity
    above = [one - other for one, other in zip(losses, full, strict=True)]
    spread = "" if len(above) < 2 else f" ± {statistics.stdev(above) / len(above) ** 0.5:.2f}"
    return f"{perplexity} ({statistics.fmean(above):+.2f}{spread})"


def digits(result: Result) -> str:
    """Recalled, by budget."""
    budgets = list(next(by for name, by in result["recall"].items() if name != "full"))
    rows = [["", *(f"{float(fraction):.0%}" for fraction in budgets)]]
    for name, by in result["recall"].items():
        rows.append([name, *(f"{by.get(fraction, by.get('1.0')):.2f}" for fraction in budgets)])
    return markdown_table(rows)


def a_token(result: Result) -> str:
    """Milliseconds."""
    rows = [["", "ms"], *([name, f"{1e3 * one:.0f}"] for name, one in result["seconds"].items())]
    return markdown_table(rows)


def critical(result: Result) -> str:
    """Items that are told apart, by dimension."""
    dimensions = list(result["fit"])
    rows = [["", *(f"d = {d}" for d in dimensions)]]
    for kind, by in result["critical"].items():
        found = ((by[d]["critical"], by[d]["most"]) for d in dimensions)
        rows.append([kind, *(f"{n}" if n < most else f"≥ {n}" for n, most in found)])
    rows.append(["the paper's fit", *(f"{result['fit'][d]:.1f}" for d in dimensions)])
    return markdown_table(rows)


def constructed(result: Result) -> str:
    """How far vectors by construction go."""

    def most(dtype: str) -> str:
        right = [int(n) for n, found in result["constructed"].items() if found[dtype]]
        return f"{max(right, default=0)} items"

    return (
        "That there are such vectors is not the question: on a curve of four numbers, "
        f"written down, all pairs of {most('float64')} are right in float64, of "
        f"{most('float32')} in float32."
    )


def pooled(result: Result) -> str:
    """Accuracy, parameters, time and memory of each pooling."""
    rows = [["", "test accuracy", "parameters", "s/epoch", "MiB/step"]]
    for name, runs in result["results"]["runs"].items():
        rows.append(
            [
                f"`{name}`",
                mean_std([run["test"] for run in runs]),
                f"{runs[0]['parameters']:,}",
                f"{statistics.median(run['seconds_per_epoch'] for run in runs):.1f}",
                f"{statistics.median(run['step_mib'] for run in runs):,.0f}",
            ]
        )
    return markdown_table(rows)


def streamed(result: Result) -> str:
    """Accuracy and order, by number of chunks."""
    runs_of = result["results"]["runs"]
    chunks = list(next(iter(runs_of.values()))[0]["accuracy"])
    rows = [
        [
            "",
            *(f"right, {n} chunks" for n in chunks),
            *(f"other order differs, {n}" for n in chunks),
            "numbers of the state",
        ]
    ]
    for name, runs in runs_of.items():
        rows.append(
            [
                f"`{name}`",
                *(mean_std([run["accuracy"][n] for run in runs]) for n in chunks),
                *(f"{statistics.fmean(run['differing'][n] for run in runs):.3f}" for n in chunks),
                f"{max(run['state_numbers'] for run in runs)}",
            ]
        )
    return markdown_table(rows)


def draw_language_model(result: Result) -> None:
    """What perplexity loses, and digits recalled, by what is kept."""
    (full,) = result["losses_by_budget"]["full"].values()
    lost: dict[str, dict[int, float]] = {}
    recalled: dict[str, dict[int, float]] = {}
    for name, by in result["losses_by_budget"].items():
        if name != "full":
            lost[name] = {
                _percent(fraction): statistics.fmean(losses) - statistics.fmean(full)
                for fraction, losses in by.items()
            }
            recalled[name] = {_percent(f): part for f, part in result["recall"][name].items()}
    folder = PAGE.with_suffix("")
    plot_lines(
        folder / "language_model.png", lost, xlabel="% of the tokens kept", ylabel="nats lost",
        log_y=True,
    )  # fmt: skip
    plot_lines(
        folder / "recall.png", recalled, xlabel="% of the tokens kept", ylabel="digits recalled"
    )


def draw_streams(result: Result) -> None:
    """Accuracy by number of chunks."""
    lines = {
        name: {
            int(n): statistics.fmean(run["accuracy"][n] for run in runs)
            for n in runs[0]["accuracy"]
        }
        for name, runs in result["results"]["runs"].items()
    }
    plot_lines(
        PAGE.with_suffix("") / "order_free_stream" / "accuracy.png", lines,
        xlabel="chunks", ylabel="right", log_x=True,
    )  # fmt: skip


def _percent(fraction: str) -> int:
    return round(100 * float(fraction))


PICTURES: dict[str, Callable[[Result], None]] = {
    "language_model": draw_language_model,
    "order_free_stream": draw_streams,
}
BLOCKS: dict[tuple[str, str], Callable[[Result], str]] = {
    ("selection", "source"): source,
    ("selection", "block"): lost("block"),
    ("selection", "mixed"): lost("mixed"),
    ("selection", "sharp"): lost("sharp"),
    ("selection", "noise"): lost("noise"),
    ("selection", "identity"): identity,
    ("selection", "recall"): recall,
    ("long_attention", "source"): source,
    ("long_attention", "prefill"): milliseconds("prefill"),
    ("long_attention", "decode"): milliseconds("decode"),
    ("long_attention", "errors"): errors_by_length,
    ("tensor_attention", "source"): source,
    ("tensor_attention", "errors"): polynomial_errors,
    ("tensor_attention", "times"): growth,
    ("match3", "source"): example_source,
    ("match3", "table"): three_tokens,
    ("prefixes", "source"): source,
    ("prefixes", "errors"): prefix_errors,
    ("language_model", "source"): source,
    ("language_model", "perplexity"): perplexity,
    ("language_model", "budgets"): perplexity_by_budget,
    ("language_model", "recall"): digits,
    ("language_model", "seconds"): a_token,
    ("limit", "source"): source,
    ("limit", "critical"): critical,
    ("limit", "constructed"): constructed,
    ("mnist_pixels", "source"): example_source,
    ("mnist_pixels", "table"): pooled,
    ("order_free_stream", "source"): example_source,
    ("order_free_stream", "table"): streamed,
}


if __name__ == "__main__":
    main()
