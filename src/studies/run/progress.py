"""Progress file of a stage, read by the runner."""

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from src.core.json_files import write_json

EVERY = 1.0  # least seconds between two updates


class StageProgress(Callback):
    """Updates `progress.json`: steps done and in total, and time and step at this process's start."""

    def __init__(self) -> None:
        self._first = 0
        self._began = 0.0
        self._noted = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._first, self._began = trainer.global_step, time.time()
        self._note(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if time.monotonic() - self._noted >= EVERY:
            self._note(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._note(trainer)

    def _note(self, trainer: Trainer) -> None:
        if not trainer.is_global_zero:
            return
        total = trainer.estimated_stepping_batches
        content = {
            "done": trainer.global_step,
            "total": int(total) if total != float("inf") else 0,
            "first": self._first,
            "began": self._began,
            "at": time.time(),
        }
        write_json(Path(trainer.default_root_dir) / "progress.json", content)
        self._noted = time.monotonic()
