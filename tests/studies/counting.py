"""A callback of a user's own that notes every run which trains, and where."""

import os
from pathlib import Path

import pytorch_lightning as pl


class Count(pl.Callback):
    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        with self.path.open("a") as file:
            device = os.environ.get("CUDA_VISIBLE_DEVICES", "-")
            file.write(f"{trainer.default_root_dir} {device} {os.environ.get('OMP_NUM_THREADS', '-')}\n")
