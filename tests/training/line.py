"""A small task and model; run as a script, a slow training run to be killed."""

import sys
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from lcm_graph.training import fit


class Line:
    """Fit one period of a sine, in 4 batches an epoch, each after ``pause`` seconds."""

    maximize = False
    steps_per_epoch = 4

    def __init__(self, pause: float = 0.0) -> None:
        self.pause = pause
        self.x = torch.linspace(-1, 1, 32)[:, None]
        self.y = torch.sin(3 * self.x)

    def train_batches(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        for chosen in torch.randperm(32, generator=generator).split(8):
            time.sleep(self.pause)
            yield self.x[chosen], self.y[chosen]

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return (model(batch[0]) - batch[1]).square().mean()

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str) -> float:
        return float((model(self.x) - self.y).square().mean())

    def __repr__(self) -> str:
        return "Line()"


def make_model(width: int = 8) -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Dropout(0.2), nn.Linear(width, 1))


if __name__ == "__main__":
    fit(
        make_model(),
        Line(pause=0.02),
        epochs=12,
        lr=0.05,
        schedule="one_cycle",
        seed=3,
        checkpoint=sys.argv[1],
    )
