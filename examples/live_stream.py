"""A stream that nobody keeps: statistics so far, rolling ones, and a learned readout.

    python examples/live_stream.py [--readings 20000] [--out out/live_stream]

Readings of four sensors come a few at a time, and one of them drifts. An accumulator holds each
sensor's mean, standard deviation and two largest readings so far; another holds what a learned
readout makes of them, which was trained on sets of 2 to 16 readings to tell the second largest.
Rolling means are folded in windows. At the end, all are compared with what the whole stream, kept
for the purpose, gives at once, and drawn.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from lcm_graph import Accumulator, segment_reduce
from lcm_graph.monoids import Lifted, Mean, Moments, Monoid, Product, SlotSelection, TopK
from lcm_graph.reduce import window_reduce
from lcm_graph.training import format_table, plot_lines

SENSORS, WINDOW, HIDDEN = 4, 256, 24


class Readout(nn.Module):
    """A learned monoid between two perceptrons."""

    def __init__(self) -> None:
        super().__init__()
        encode = nn.Sequential(nn.Linear(1, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN))
        self.monoid: Monoid = Lifted(encode, SlotSelection(HIDDEN, slots=4), channels=1)
        self.decode = nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))

    def forward(self, x: Tensor, index: Tensor, sets: int) -> Tensor:
        """Readings ``[n, 1]`` in ``sets`` sets -> ``[sets]``."""
        states = segment_reduce(self.monoid, self.monoid.lift(x), index, dim_size=sets)
        return self.read(self.monoid.lower(states))

    def read(self, folded: Tensor) -> Tensor:
        """What the sets folded to -> ``[sets]``."""
        out: Tensor = self.decode(folded)
        return out.squeeze(1)


def trained(steps: int) -> Readout:
    """A readout that has seen sets of 2 to 16 readings."""
    torch.manual_seed(0)
    readout = Readout()
    optimizer = torch.optim.Adam(readout.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    for _ in range(steps):
        sizes = torch.randint(2, 17, (128,))
        index = torch.arange(128).repeat_interleave(sizes)
        x = torch.randn(len(index), 1) + torch.randn(128, 1)[index]
        second = segment_reduce(TopK(1, k=2), TopK(1, k=2).lift(x), index)[:, 1, 0]
        loss = (readout(x, index, 128) - second).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return readout.eval()


def readings(n: int) -> tuple[Tensor, Tensor]:
    """Readings ``[n, 1]`` and their sensors ``[n]``; the last sensor drifts."""
    generator = torch.Generator().manual_seed(1)
    sensor = torch.randint(0, SENSORS, (n,), generator=generator)
    x = torch.randn(n, generator=generator) * (1 + 0.2 * sensor)
    return (x + torch.linspace(0, 2, n) * (sensor == SENSORS - 1)).unsqueeze(1), sensor


@torch.no_grad()
def main() -> None:
    """Follow the stream, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readings", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=600, help="of training the readout")
    parser.add_argument("--out", type=Path, default=Path("out/live_stream"))
    parser.add_argument("--smoke", action="store_true", help="see that it runs: seconds")
    args = parser.parse_args()
    if args.smoke:
        args.readings, args.steps = 700, 3
    if args.readings < WINDOW:
        parser.error(f"--readings must be at least {WINDOW}, the width of a window")

    with torch.enable_grad():
        readout = trained(args.steps)
    known = Product(Moments(1), TopK(1, k=2))
    statistics, learned = Accumulator(known), Accumulator(readout.monoid)
    x, sensor = readings(args.readings)
    sizes = torch.randint(1, 64, (args.readings,)).cumsum(0)
    cuts = sizes[sizes < args.readings]
    second: dict[str, dict[int, float]] = {"second largest": {}, "learned readout": {}}
    for some, where in zip(x.tensor_split(cuts), sensor.tensor_split(cuts), strict=True):
        statistics.update(some, where, dim_size=SENSORS)
        learned.update(some, where, dim_size=SENSORS)
        seen = statistics.num_elements
        second["second largest"][seen] = float(statistics.result()[-1, -1])
        second["learned readout"][seen] = float(readout.read(learned.result())[-1])

    rolling = window_reduce(Mean(1), Mean(1).lift(x), WINDOW, sensor)
    rolling_mean = Mean(1).lower(rolling).squeeze(1)
    whole = known.lower(segment_reduce(known, known.lift(x), sensor, dim_size=SENSORS))
    found = statistics.result()
    guesses = readout.read(learned.result())
    rows = []
    for own in range(SENSORS):
        mean, deviation, first, other = found[own].tolist()
        last = float(rolling_mean[sensor == own][-1])
        rows.append([own, int(statistics.counts[own]), mean, deviation, last, first, other])
        rows[-1].append(float(guesses[own]))
    header = ["sensor", "readings", "mean", "std", f"mean of {WINDOW}", "largest", "second"]
    print(format_table([*header, "learned"], rows))
    print(f"differs from all at once by {float((found - whole).abs().max()):.1e}")
    print(f"states kept for {args.readings:,} readings: {statistics.num_states}")

    args.out.mkdir(parents=True, exist_ok=True)
    drifting = "second largest of the drifting sensor"
    plot_lines(args.out / "second.png", second, xlabel="readings so far", ylabel=drifting)
    means: dict[str, dict[int, float]] = {}
    for own in range(SENSORS):
        at = (sensor == own).nonzero().flatten()[WINDOW // 8 :: max(1, args.readings // 400)]
        means[f"sensor {own}"] = dict(zip(at.tolist(), rolling_mean[at].tolist(), strict=True))
    plot_lines(args.out / "means.png", means, xlabel="reading", ylabel=f"mean of {WINDOW}")
    print(f"wrote {args.out / 'second.png'} and {args.out / 'means.png'}")


if __name__ == "__main__":
    main()
