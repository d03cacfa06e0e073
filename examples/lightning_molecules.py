"""A Lightning module whose layers and readout aggregate by learned monoids: OGB's molecules.

    python examples/lightning_molecules.py [--root ROOT] [--dataset ogbg-molesol] [--aggr lcm]

``ROOT`` holds the data set's folder as OGB ships it; without it, FreeSolv comes with the package.
Run again with more ``--epochs`` to go on from the last epoch. Needs ``pip install
pytorch-lightning``.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor
from torch.nn.functional import mse_loss
from torch_geometric.loader import DataLoader
from torchmetrics import MeanSquaredError

from lcm_graph.aggregators import AGGREGATIONS, regularization
from lcm_graph.datasets import load_molecules
from lcm_graph.training import MoleculeGNN


class MoleculeModule(lightning.LightningModule):
    """Regress one property; what the aggregations ask for (``associativity=…``) joins the loss."""

    def __init__(
        self, aggr: str, hidden: int, layers: int, lr: float, mean: float, std: float
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr, self.mean, self.std = lr, mean, std
        self.model = MoleculeGNN(aggr, hidden, layers)
        self.valid_rmse = MeanSquaredError(squared=False)
        self.test_rmse = MeanSquaredError(squared=False)

    def forward(self, batch: Any) -> Tensor:
        """A batch of G molecules -> their property, ``[G, 1]``."""
        out: Tensor = self.model(batch) * self.std + self.mean
        return out

    def training_step(self, batch: Any) -> Tensor:
        loss = mse_loss(self.model(batch), (batch.y - self.mean) / self.std)
        self.log("train_loss", loss, batch_size=batch.num_graphs)
        return loss + regularization(self.model)

    def validation_step(self, batch: Any) -> None:
        self.valid_rmse.update(self(batch), batch.y)
        self.log("valid_rmse", self.valid_rmse, batch_size=batch.num_graphs, prog_bar=True)

    def test_step(self, batch: Any) -> None:
        self.test_rmse.update(self(batch), batch.y)
        self.log("test_rmse", self.test_rmse, batch_size=batch.num_graphs)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr)


def main() -> None:
    """Train, go on from a checkpoint if there is one, test at the best validation epoch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", help="folder that holds the data set's folder")
    parser.add_argument("--dataset", default="ogbg-molfreesolv", help="OGB's name, of regression")
    known = [name for name in AGGREGATIONS if name != "mix"]  # whose phases would be planned
    parser.add_argument("--aggr", default="lcm", choices=known, metavar="AGGR")
    parser.add_argument("--epochs", type=int, help="(default: 30; 2 with --smoke)")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--out", type=Path, help="folder (default: in out/lightning, of its own)")
    parser.add_argument("--smoke", action="store_true", help="see that it runs: seconds")
    args = parser.parse_args()
    if args.epochs is None:
        args.epochs = 2 if args.smoke else 30
    if args.epochs < 1:
        parser.error(f"--epochs must be at least 1 (got {args.epochs})")
    try:
        molecules = load_molecules(args.dataset, args.root)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if not molecules.is_regression:
        parser.error(f"--dataset must be one of regression (got {args.dataset})")
    out = args.out or Path("out/lightning", f"{args.dataset}-{args.aggr}{'-smoke' * args.smoke}")
    if args.smoke and args.out is None:  # to see that it runs, not that it has run
        shutil.rmtree(out, ignore_errors=True)
    hidden, layers = (8, 1) if args.smoke else (64, 3)

    targets = molecules.targets("train")
    loaders = {
        split: DataLoader(molecules.subset(split), batch_size=64, shuffle=split == "train")
        for split in ("train", "valid", "test")
    }
    mean, std = float(targets.mean()), float(targets.std())
    last = out / "last.ckpt"
    done = torch.load(last, weights_only=True) if last.exists() else None
    lightning.seed_everything(0 if done is None else done["global_step"], verbose=False)
    module = MoleculeModule(args.aggr, hidden, layers, args.lr, mean, std)
    if done is not None and done["epoch"] >= args.epochs:
        parser.error(
            f"--epochs must be at least {done['epoch'] + 1} as in {last} (got {args.epochs})"
        )
    for name, here in module.hparams.items():
        if done is not None and done["hyper_parameters"][name] != here:
            there = done["hyper_parameters"][name]
            parser.error(
                f"{last}: {name} was {there!r} there and is {here!r} now; use another --out"
            )
    best = ModelCheckpoint(out, monitor="valid_rmse")
    latest = ModelCheckpoint(out, "last", enable_version_counter=False)
    trainer = lightning.Trainer(
        max_epochs=args.epochs,
        callbacks=[best, latest],
        default_root_dir=out,
        accelerator="auto",
        devices=1,
        gradient_clip_val=1.0,
        logger=False,
        enable_model_summary=False,
        enable_progress_bar=not args.smoke,
    )
    trainer.fit(
        module, loaders["train"], loaders["valid"], ckpt_path=None if done is None else last
    )
    trainer.test(ckpt_path="best", dataloaders=loaders["test"])


if __name__ == "__main__":
    main()
