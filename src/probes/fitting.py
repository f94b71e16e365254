"""Modules that are fitted to the training images before an evaluation, not by optimiser steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn

from src.backbones.backbone import Backbone
from src.core.errors import UserError
from src.segmentation.iterate_once import iterate_once
from src.segmentation.recorded_head import RecordedHead


class FittedModule(RecordedHead, ABC):
    """Fits once to every training image of the data module, including those that a training loader would drop.

    `validate` and `test` therefore need no checkpoint and no fit; a `fit` of one epoch learns nothing and evaluates at
    its end.

    Args:
        backbone: Gives the features; not trained.
        arguments: Arguments of the next base class.
    """

    needs_checkpoint: ClassVar[bool] = False

    def __init__(self, backbone: Backbone, *arguments: Any) -> None:
        super().__init__(backbone.requires_grad_(False).eval(), *arguments)
        self.automatic_optimization = False
        self._fitted = False

    @abstractmethod
    def begin(self) -> None:
        """Reset the collected data and the fit."""

    @abstractmethod
    def see(self, batch: Any) -> None:
        """Collect the features of a batch of training images."""

    @abstractmethod
    def conclude(self) -> None:
        """Fit to the data collected by all ranks; called on all ranks."""

    def train(self, mode: bool = True) -> Self:
        """Nothing trains."""
        return super().train(False)

    def configure_optimizers(self) -> None:
        """Nothing trains."""

    def setup(self, stage: str) -> None:
        """Reset an earlier run.

        Raises:
            UserError: If several processes are to fit, which DDP refuses a module without trainable parameters.
        """
        if stage == TrainerFn.FITTING and self.trainer.world_size > 1:
            raise UserError("a probe has nothing to fit by steps; use `validate` or `test` with several devices")
        self._fitted = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """End the fit, since the evaluation does it: no step is counted, so max_steps would never be reached."""
        self.trainer.should_stop = True

    def on_validation_epoch_start(self) -> None:
        """Fit, and reset the counts."""
        super().on_validation_epoch_start()
        self._fit()

    def on_test_epoch_start(self) -> None:
        """Fit, and reset the counts."""
        super().on_test_epoch_start()
        self._fit()

    def on_predict_epoch_start(self) -> None:
        """Fit."""
        self._fit()

    @torch.no_grad()
    def _fit(self) -> None:
        if self._fitted:
            return
        data: LightningDataModule | None = self.trainer.datamodule  # type: ignore[attr-defined]
        if data is None:
            raise UserError(f"{type(self).__name__} needs a data module, to whose training images it is fitted")
        data.setup("fit")  # not yet listed by an evaluation without a fit
        self.begin()
        for batch in iterate_once(data.train_dataloader(), self, "reading the training images", share=True):
            self.see(batch)
        self.conclude()
        self._fitted = True
