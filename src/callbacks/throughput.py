"""Throughput of a fit, and the share of time it waits for data."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from src.core.errors import UserError


class Throughput(Callback):
    """Logs ``train/images_per_second`` (all ranks) and ``train/data_share`` at each logging step.

    ``train/data_share`` is the part of the time, 0 to 1, in which the device waited for the next batch. Validation and
    checkpoints are not counted. A batch, or one of its parts, tells its size
    by a tensor `indices`, one entry for each image.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._images = 0
        self._waiting = self._working = 0.0
        self._mark: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._reset()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        now = time.perf_counter()
        if self._mark is not None:
            self._waiting += now - self._mark
        self._mark = now

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        if self._mark is not None:
            self._working += now - self._mark
        self._mark = now
        self._images += _images_in(batch) * trainer.world_size
        if (trainer.fit_loop.epoch_loop._batches_that_stepped + 1) % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            spent = self._waiting + self._working
            pl_module.log("train/images_per_second", self._images / spent, batch_size=1)
            pl_module.log("train/data_share", self._waiting / spent, batch_size=1)
            mark = self._mark
            self._reset()
            self._mark = mark

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._mark = None


def _images_in(batch: Any) -> int:
    for part in (batch, *batch):
        indices = getattr(part, "indices", None)
        if isinstance(indices, Tensor):  # of a plain tensor it is a method
            return len(indices)
    raise UserError(f"a batch of type {type(batch).__name__} has no tensor `indices`, one entry for each image")
