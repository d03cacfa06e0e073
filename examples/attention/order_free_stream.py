"""A state of bounded size reads a stream whose order means nothing.

    python examples/attention/order_free_stream.py [--aggr gru lcm lcm-assoc lifted-max sum]

Each chunk of a stream brings a few readings, (sensor, value); after the last, the largest value of
every sensor is asked for. Trained on streams of 2 to 8 chunks, tested on longer ones. A recurrent
network must learn that the order is nothing; a monoid that is learned folds the chunks in a tree.
Told are accuracy by number of chunks, the share of answers that differ when the same chunks come in
another order, and how many numbers the state has that reads a stream chunk by chunk.

The longest streams are read as they would come: by ``fold_left``, whose state may not exceed a
budget, over the GRU's cell or over an ``Accumulator``; what it answers is compared with what the
aggregation answers to the whole stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lcm_graph.aggregators import (
    LCMAggregation,
    MonoidAggregation,
    RecurrentAggregation,
    aggregation_by_name,
)
from lcm_graph.attention.memories import fold_left
from lcm_graph.reduce import Accumulator
from lcm_graph.training import COLUMNS, compare, comparison_parser, fit_and_test

SENSORS, VALUES, READINGS = 8, 16, 4  # readings a chunk
TRAINED, TESTED = (2, 8), (8, 32, 128)  # chunks
Batch = tuple[Tensor, Tensor]


def draw(streams: int, chunks: int, generator: torch.Generator) -> Batch:
    """Readings int64 ``[streams, chunks, READINGS, 2]``, and the largest values, 0 where there is
    none, ``[streams, SENSORS]``.

    Each stream and sensor has a limit of its own, so that long streams do not all end alike.
    """
    shape = (streams, chunks, READINGS)
    sensor = torch.randint(SENSORS, shape, generator=generator)
    limit = torch.randint(1, VALUES + 1, (streams, SENSORS), generator=generator)
    mine = limit.gather(1, sensor.flatten(1)).view(shape)
    value = 1 + (torch.rand(shape, generator=generator) * mine).long()
    largest = torch.zeros(streams, SENSORS, dtype=torch.long)
    largest.scatter_reduce_(1, sensor.flatten(1), value.flatten(1), "amax")
    return torch.stack([sensor, value], -1), largest


class StreamTask:
    """Fresh streams in each step; the metric is the share of sensors that are answered right."""

    maximize = True

    def __init__(self, steps: int, streams: int, tested: int) -> None:
        self.steps_per_epoch, self.streams, self.tested = steps, streams, tested

    def train_batches(self, generator: torch.Generator) -> Iterator[Batch]:
        for _ in range(self.steps_per_epoch):
            low, high = TRAINED
            chunks = int(torch.randint(low, high + 1, (), generator=generator))
            yield draw(self.streams, chunks, generator)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return F.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten())

    def examples(self, split: str, chunks: int) -> Batch:
        """Always the same ones."""
        seed = 1000 * chunks + (split == "test")
        return draw(self.tested, chunks, torch.Generator().manual_seed(seed))

    def evaluate(self, model: nn.Module, split: str) -> float:
        readings, largest = self.examples(split, TRAINED[1])
        return float((answers(model, readings) == largest).double().mean())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.steps_per_epoch}, {self.streams})"


class StreamReader(nn.Module):
    """Encode each chunk, fold the chunks, decode."""

    def __init__(self, aggr: str, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(SENSORS * (VALUES + 1), hidden)
        self.encode = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.fold = aggregation_by_name(aggr, hidden, hidden)
        self.decode = nn.Sequential(
            nn.Linear(self.fold.out_channels, hidden),
            nn.GELU(),
            nn.Linear(hidden, SENSORS * (VALUES + 1)),
        )

    def chunks(self, readings: Tensor) -> Tensor:
        """``[streams, chunks, READINGS, 2]`` -> ``[streams, chunks, hidden]``."""
        sensor, value = readings.unbind(-1)
        out: Tensor = self.encode(self.embed(sensor * (VALUES + 1) + value).sum(2))
        return out

    def answer(self, folded: Tensor) -> Tensor:
        """``[streams, out_channels]`` -> ``[streams, SENSORS, VALUES + 1]``."""
        out: Tensor = self.decode(folded).unflatten(1, (SENSORS, VALUES + 1))
        return out

    def forward(self, readings: Tensor) -> Tensor:
        """The whole stream at once."""
        encoded = self.chunks(readings)
        streams, chunks = encoded.shape[:2]
        ptr = torch.arange(0, streams * chunks + 1, chunks)
        return self.answer(self.fold(encoded.flatten(0, 1), ptr=ptr))

    def read(self, readings: Tensor) -> tuple[Tensor, int]:
        """One stream ``[1, chunks, READINGS, 2]``, chunk by chunk; and its state's numbers."""
        chunks = self.chunks(readings)[0].split(1)
        width, largest = self.fold.out_channels, 0

        def size(numbers: int) -> int:
            nonlocal largest
            largest = max(largest, numbers)
            return numbers

        if isinstance(self.fold, RecurrentAggregation):
            network = self.fold.network

            def step(state: Tensor, chunk: Tensor) -> Tensor:
                return network(chunk.unsqueeze(0), state)[1]

            state = torch.zeros(1, 1, width)
            last = fold_left(step, chunks, state, width, size=lambda s: size(s.numel()))
            return self.answer(last[0]), largest

        def take(counter: Accumulator, chunk: Tensor) -> Accumulator:
            counter.update(chunk)
            return counter

        fold = self.fold
        if isinstance(fold, LCMAggregation) and fold.lin is not None:
            chunks = tuple(fold.lin(chunk).relu() for chunk in chunks)
        assert isinstance(fold, LCMAggregation | MonoidAggregation)
        budget = width * (1 + int(math.log2(len(chunks))))  # a state for each binary digit
        counter = fold_left(
            take,
            chunks,
            Accumulator(fold.monoid),
            budget,
            size=lambda held: size(held.num_states * width),
        )
        return self.answer(counter.result()), largest


@torch.no_grad()
def answers(model: nn.Module, readings: Tensor) -> Tensor:
    """The likeliest values ``[streams, SENSORS]``."""
    was_training = model.training
    model.eval()
    found = torch.cat([model(some).argmax(2) for some in readings.split(64)])
    model.train(was_training)
    return found


@torch.no_grad()
def beyond(task: StreamTask, model: StreamReader) -> dict[str, Any]:
    """Longer streams, other orders, and the longest chunk by chunk."""
    generator = torch.Generator().manual_seed(0)
    accuracy, differing = {}, {}
    for chunks in TESTED:
        readings, largest = task.examples("test", chunks)
        found = answers(model, readings)
        other = answers(model, readings[:, torch.randperm(chunks, generator=generator)])
        accuracy[str(chunks)] = float((found == largest).double().mean())
        differing[str(chunks)] = float((found != other).double().mean())
    model.eval()
    some = readings[:2]
    read = [model.read(stream) for stream in some.split(1)]
    gap = torch.cat([answer for answer, _ in read]) - model(some)
    return {
        "accuracy": accuracy,
        "differing": differing,
        "state_numbers": max(numbers for _, numbers in read),
        "gap": float(gap.abs().max()),
    }


def train(
    aggr: str, seed: int, epochs: int, device: str, steps: int, streams: int, hidden: int, lr: float
) -> dict[str, Any]:
    """One run, tested at the best validation epoch."""
    torch.manual_seed(seed)
    model = StreamReader(aggr, hidden)
    task = StreamTask(steps, streams, tested=512)
    found = fit_and_test(model, task, epochs=epochs, lr=lr, seed=seed, device=device)
    return found | beyond(task, model)


def told(what: str, chunks: str, run: Mapping[str, Any]) -> float:
    """A run's figure for streams of so many chunks."""
    return float(run[what][chunks])


def main() -> None:
    """Compare folds."""
    parser = comparison_parser(
        __doc__,
        aggr=["gru", "lcm", "lcm-assoc", "lifted-max", "lifted-sum"],
        runs=3,
        epochs=20,
        known=["gru", "lcm", "lcm-assoc", "mlp", "lifted-max", "lifted-sum"],
    )
    parser.add_argument("--steps", type=int, default=200, help="of an epoch")
    parser.add_argument("--streams", type=int, default=64, help="per step")
    parser.add_argument("--hidden", type=int, default=64, help="features of a state")
    parser.add_argument("--lr", type=float, default=3e-3, help="peak learning rate")
    args = parser.parse_args()
    if args.smoke:
        args.runs, args.epochs, args.steps, args.streams, args.hidden = 1, 1, 2, 2, 8
    columns: dict[str, Callable[[Mapping[str, Any]], float]] = {}
    for title, what in (("{} chunks", "accuracy"), ("{}, reordered", "differing")):
        columns |= {title.format(n): partial(told, what, str(n)) for n in TESTED}
    columns["state"] = lambda run: run["state_numbers"]
    names = ("steps", "streams", "hidden", "lr")
    settings = {name: getattr(args, name) for name in names}
    compare(train, args, settings, columns | COLUMNS, name="order-free-stream")


if __name__ == "__main__":
    main()
