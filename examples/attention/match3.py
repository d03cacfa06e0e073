"""What needs three tokens at once: one layer of tensor attention learns it, ordinary attention not.

    python examples/attention/match3.py [--task match3 composition] [--form standard strassen]

Match3: of integers modulo 37, tell of each whether it and two of the others add up to 0. In these
sets no two integers do with one of them counted twice, which a pair of tokens would show.
Composition: of functions f and g, listed value by value, and arguments x, tell g(f(x)).

One layer, no pretrained weights, fresh data in each step, and for all forms of attention the same
width, heads and number of parameters: what tensor attention has more in projections, ordinary
attention ("standard") has in its perceptron. Told are accuracy on sequences of full length, that of
the best constant answer, and for compositions that of the most frequent value of g, which is as far
as one gets without finding f(x). ``rank1`` multiplies two ordinary attentions: products of values
tell of sums of two tokens, which goes far in Match3, but it cannot follow f into g.

Tasks: Sanford et al., "Representational Strengths and Limitations of Transformers" (2023); Peng et
al., "On Limitations of the Transformer Architecture" (2024); both in Kozachinskiy et al., "Strassen
Attention, Split VC Dimension and Compositionality in Transformers" (2025). The data are our own.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lcm_graph.attention import attend, tensor_attention
from lcm_graph.training import (
    count_parameters,
    fit,
    format_table,
    mean_std,
    plot_lines,
    run_missing,
    write_results,
)

FORMS = ("standard", "rank1", "trilinear", "strassen")
EPOCHS = 25
WIDTH, HEADS, HIDDEN = 64, 4, 128
Batch = tuple[Tensor, Tensor]


class FreshTask:
    """Classify tokens of sequences that are drawn for each step; the metric is accuracy."""

    maximize = True
    size: int  # of a set, or of what functions are defined on
    tokens: int  # that there are
    classes: int
    places = 0  # that a token may have, if it matters which
    asking = 0  # tokens at the end, which see the others and are not seen; or all see all

    def __init__(self, steps: int, batch_size: int, tested: int) -> None:
        self.steps_per_epoch, self.batch_size = steps // EPOCHS, batch_size
        self.sets = {
            split: self.draw(tested, self.size, torch.Generator().manual_seed(seed))
            for seed, split in enumerate(("valid", "test"))
        }

    def draw(self, count: int, size: int, generator: torch.Generator) -> Batch:
        """Tokens ``[count, n]``, and classes of all or of those that ask."""
        raise NotImplementedError

    def train_size(self, generator: torch.Generator) -> int:
        """The size of a training batch."""
        return self.size

    def train_batches(self, generator: torch.Generator) -> Iterator[Batch]:
        for _ in range(self.steps_per_epoch):
            yield self.draw(self.batch_size, self.train_size(generator), generator)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return F.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten())

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str) -> float:
        x, y = self.sets[split]
        parts = zip(x.split(256), y.split(256), strict=True)
        return sum(int((model(some).argmax(2) == own).sum()) for some, own in parts) / y.numel()

    def baselines(self) -> dict[str, float]:
        """Accuracy on the test set of answers that need no attention."""
        y = self.sets["test"][1]
        return {"best constant": int(y.flatten().bincount().max()) / y.numel()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.steps_per_epoch * EPOCHS}, {self.batch_size})"


class Match3(FreshTask):
    """Integers ``[sets, n]`` -> whether each is one of three that add up to 0, ``[sets, n]``."""

    size, tokens, classes = 9, 37, 2

    def draw(self, count: int, size: int, generator: torch.Generator) -> Batch:
        found: list[Tensor] = []
        while sum(map(len, found)) < count:
            x = torch.randint(self.tokens, (8 * count, size), generator=generator)
            pairs = (x.unsqueeze(2) + 2 * x.unsqueeze(1)) % self.tokens == 0
            found.append(x[~pairs.flatten(1).any(1)])
        x = torch.cat(found)[:count]
        sums = (x.unsqueeze(2) + x.unsqueeze(1)).flatten(1) % self.tokens
        there = torch.zeros(count, self.tokens, dtype=torch.long).scatter_(1, sums, 1)
        return x, there.gather(1, -x % self.tokens)

    def train_size(self, generator: torch.Generator) -> int:
        """Every other batch is of smaller sets, which show sooner which three it was."""
        full, smaller = torch.randint(3, self.size + 1, (2,), generator=generator).tolist()
        return self.size if full % 2 else smaller


class Composition(FreshTask):
    """Values of f, of g, and arguments x, ``[sequences, 3 n]`` -> g(f(x)), ``[sequences, n]``."""

    size = tokens = classes = asking = 8
    places = 3 * size

    def draw(self, count: int, size: int, generator: torch.Generator) -> Batch:
        x = torch.randint(size, (count, 3 * size), generator=generator)
        f, g, asked = x.split(size, 1)
        return x, g.gather(1, f.gather(1, asked))

    def baselines(self) -> dict[str, float]:
        x, y = self.sets["test"]
        g = x[:, self.size : 2 * self.size]
        frequent = (g.mode(1, keepdim=True).values == y).double().mean()
        return super().baselines() | {"most frequent g": float(frequent)}


TASKS: dict[str, type[FreshTask]] = {"match3": Match3, "composition": Composition}
SETTINGS: dict[str, dict[str, Any]] = {
    "match3": {"steps": 4000, "lr": 3e-3, "batch_size": 128, "tested": 1024},
    "composition": {"steps": 2000, "lr": 3e-3, "batch_size": 64, "tested": 1024},
}


class OneLayer(nn.Module):
    """A transformer of one layer."""

    def __init__(self, form: str, task: FreshTask) -> None:
        super().__init__()
        self.form, self.asking = form, task.asking
        self.sets = 1 if form == "standard" else 2
        self.embedding = nn.Embedding(task.tokens, WIDTH)
        self.place = nn.Parameter(torch.randn(task.places, WIDTH))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(3))
        self.project = nn.Linear(WIDTH, (1 + 2 * self.sets) * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        hidden = HIDDEN + (2 - self.sets) * WIDTH
        self.perceptron = nn.Sequential(
            nn.Linear(WIDTH, hidden), nn.GELU(), nn.Linear(hidden, WIDTH)
        )
        self.decode = nn.Linear(WIDTH, task.classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[sequences, n]`` -> ``[sequences, n or asking, classes]``."""
        x = self.embedding(tokens)
        if len(self.place):
            x = x + self.place
        parts = self.project(self.norms[0](x)).unflatten(2, (-1, HEADS, WIDTH // HEADS))
        q, *rest = parts.permute(2, 0, 3, 1, 4)  # each [sequences, heads, n, features]
        if self.asking:
            x, q = x[:, -self.asking :], q[:, :, -self.asking :]
            rest = [one[:, :, : -self.asking] for one in rest]
        keys, values = rest[: self.sets], rest[self.sets :]
        if self.form == "standard":
            state = attend(q, keys[0], values[0])
        else:
            state = tensor_attention(q, keys, values, form=self.form)
        x = x + self.out(state.out.transpose(1, 2).flatten(2))
        x = x + self.perceptron(self.norms[1](x))
        logits: Tensor = self.decode(self.norms[2](x))
        return logits


def train(
    task: str, form: str, seed: int, steps: int, lr: float, batch_size: int, tested: int
) -> dict[str, Any]:
    """One run: the accuracy after each epoch, and of the last one on the test set."""
    data = TASKS[task](steps, batch_size, tested)
    torch.manual_seed(seed)
    model = OneLayer(form, data)
    how = {"schedule": "one_cycle", "clip_norm": 1.0, "keep": "last"}
    found = fit(model, data, epochs=EPOCHS, lr=lr, seed=seed, **how)  # type: ignore[arg-type]
    return {
        "test": data.evaluate(model, "test"),
        "valid": {epoch.epoch * data.steps_per_epoch: epoch.valid for epoch in found.history},
        "parameters": count_parameters(model),
        "seconds": sum(epoch.seconds for epoch in found.history),
    }


def main() -> None:
    """Compare forms of attention over seeds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--form", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--runs", type=int, default=3, help="runs, with seeds 0, 1, …")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, a thread each")
    parser.add_argument("--out", type=Path, default=Path("out/match3"), help="folder for results")
    parser.add_argument("--smoke", action="store_true", help="see that it runs: seconds")
    args = parser.parse_args()
    torch.set_num_threads(1)
    less = {"steps": EPOCHS, "batch_size": 2, "tested": 32} if args.smoke else {}
    runs = {
        f"{task}--{form}--{seed}": {
            "task": task,
            "form": form,
            "seed": seed,
            **SETTINGS[task],
            **less,
        }
        for task in args.task
        for form in args.form
        for seed in range(1 if args.smoke else args.runs)
    }
    done = run_missing(
        train,
        runs,
        args.out / "runs",
        jobs=args.jobs,
        describe=lambda name, result: f"  {name}: {result['test']:.3f}",
    )
    rows: list[list[Any]] = []
    results: dict[str, Any] = {name: run.result for name, run in done.items()}
    for task in args.task:
        lines: dict[str, dict[int, float]] = {}
        for form in args.form:
            mine = [run for name, run in results.items() if name.startswith(f"{task}--{form}--")]
            seconds = statistics.fmean(run["seconds"] for run in mine)
            accuracy = mean_std([run["test"] for run in mine])
            rows.append([task, form, accuracy, mine[0]["parameters"], f"{seconds:.0f}"])
            lines[form] = {
                int(step): statistics.fmean(run["valid"][step] for run in mine)
                for step in mine[0]["valid"]
            }
        results[f"{task}--baselines"] = TASKS[task](EPOCHS, 1, 1024).baselines()
        for name, constant in results[f"{task}--baselines"].items():
            rows.append([task, name, f"{constant:.3f}", "", ""])
            lines[name] = dict.fromkeys(lines[args.form[0]], constant)
        plot_lines(args.out / f"{task}.png", lines, xlabel="training steps", ylabel="accuracy")
    print(format_table(["task", "attention", "test accuracy", "parameters", "s"], rows))
    write_results(
        args.out / "results.json",
        command=["python", *sys.argv],
        settings={"tasks": args.task, "forms": args.form, "runs": args.runs, **SETTINGS, **less},
        results=results,
    )


if __name__ == "__main__":
    main()
