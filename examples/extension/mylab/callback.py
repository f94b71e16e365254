"""The loss of every step in a text file of the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class LossFile(Callback):
    """Writes `losses.txt`, one number per line.

    Args:
        digits: Digits after the decimal point.
    """

    def __init__(self, digits: int = 4) -> None:
        self.digits = digits

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        with (Path(trainer.default_root_dir) / "losses.txt").open("a") as file:
            file.write(f"{float(outputs['loss']):.{self.digits}f}\n")
