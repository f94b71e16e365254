"""Print the recipe in one line at the start of a fit: processes, images per step, learning rate, steps."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from src.core.schedules import planned_steps


@runtime_checkable
class HasPeakRate(Protocol):
    """A module that trains."""

    def peak_rate(self, batch: int) -> float:
        """Peak learning rate for steps of `batch` images."""


class Recipe(Callback):
    """Prints the recipe before the first step: `2 processes × 16 = 32 images a step, peak rate 6e-05, 440 steps`."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell it."""
        batch = getattr(trainer.train_dataloader, "batch_size", None)
        if batch is None or not isinstance(pl_module, HasPeakRate):
            return
        rank_zero_info(
            recipe(
                trainer.world_size,
                batch,
                trainer.accumulate_grad_batches,
                pl_module.peak_rate(trainer.world_size * batch * trainer.accumulate_grad_batches),
                planned_steps(trainer.estimated_stepping_batches),
            )
        )


def recipe(processes: int, batch: int, accumulated: int, rate: float, steps: int) -> str:
    """The line.

    Args:
        processes: Number of training processes.
        batch: Images per process.
        accumulated: Batches per step.
        rate: Peak learning rate.
        steps: Optimiser steps of the whole fit.
    """
    factors = [f"{processes} process{'es' if processes > 1 else ''}", str(batch)]
    factors += [f"{accumulated} accumulated batches"] if accumulated > 1 else []
    return (
        f"{' × '.join(factors)} = {processes * batch * accumulated} images a step, peak rate {rate:.4g}, {steps} steps"
    )
