"""Log a fit's throughput and the share of time spent waiting for data."""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from src.core.errors import UserError

Mark = float | torch.cuda.Event


class Throughput(Callback):
    """Logs ``train/images_per_second`` (all ranks) and ``train/data_share`` at each logging step.

    ``train/data_share`` is the part of the time, 0 to 1, in which the device waited for the next batch. On CUDA it is
    measured on the device's own clock: waiting for the loader while kernels still run is not counted.
    Validation and checkpoints are not counted. The size of a batch is that of its tensor `indices`, or of one of its
    parts, with one entry per image.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._images = 0
        self._waits: list[tuple[Mark, Mark]] = []
        self._works: list[tuple[Mark, Mark]] = []
        self._mark: Mark | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._reset()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        now = _mark(pl_module.device)
        if self._mark is not None:
            self._waits.append((self._mark, now))
        self._mark = now

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = _mark(pl_module.device)
        if self._mark is not None:
            self._works.append((self._mark, now))
        self._mark = now
        self._images += _images_in(batch) * trainer.world_size
        if (trainer.fit_loop.epoch_loop._batches_that_stepped + 1) % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            if isinstance(now, torch.cuda.Event):
                now.synchronize()
            waiting = sum(_seconds(*span) for span in self._waits)
            spent = waiting + sum(_seconds(*span) for span in self._works)
            pl_module.log("train/images_per_second", self._images / spent, batch_size=1)
            pl_module.log("train/data_share", waiting / spent, batch_size=1)
            self._reset()
            self._mark = now

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._mark = None


def _mark(device: torch.device) -> Mark:
    """Record the time: in the queue of a CUDA device, or on the clock."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _seconds(begin: Mark, end: Mark) -> float:
    """Time between two marks of one kind."""
    if isinstance(begin, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
        return float(begin.elapsed_time(end)) / 1e3
    assert isinstance(begin, float) and isinstance(end, float)
    return end - begin


def _images_in(batch: Any) -> int:
    for part in (batch, *batch):
        indices = getattr(part, "indices", None)
        if isinstance(indices, Tensor):  # a method, for a plain tensor
            return len(indices)
    raise UserError(f"a batch of type {type(batch).__name__} has no tensor `indices`, one entry for each image")
