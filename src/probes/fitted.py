"""Segmentation by a probe that is fitted to the training images' features before an evaluation, and never by steps.

Shapes: B images · D width · h×w patches of one image · C classes.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from src.backbones.backbone import Backbone
from src.core.errors import UserError
from src.evaluation.patch_labels import label_counts
from src.evaluation.test_time_averaging import TestTimeAveraging
from src.segmentation.evaluation_loop import LabelledImages, ScoredSegmentation
from src.segmentation.inference import Inference, Whole
from src.segmentation.iterate_once import iterate_once


class FittedProbe(ScoredSegmentation):
    """Fits to every training image of the data module, each once, also those that a training loader would drop.

    `validate` and `test` therefore need no checkpoint and no fit; a `fit` of one epoch learns nothing and evaluates at
    its end.

    Args:
        backbone: Gives the features, as it is.
        num_classes: C.
        ignore_index: Id in masks that is no class.
        class_names: One per class; their ids if None.
        boundary: Also measure boundary IoU, within this share of the image's diagonal (its paper takes 0.02).
        inference: How images become scores in validation, test and prediction.
        averaged: Average the features over flips and three scales (`TestTimeAveraging`): the gain that costs no
            training, beside which an adapted backbone has to stand (docs/method.md, section 11).
    """

    needs_checkpoint = False

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        ignore_index: int = 255,
        class_names: list[str] | None = None,
        boundary: float | None = None,
        inference: Inference = Whole(),
        averaged: bool = False,
    ) -> None:
        super().__init__(
            backbone.requires_grad_(False).eval(), num_classes, ignore_index, class_names, boundary, inference
        )
        self.automatic_optimization = False
        self.averaged = averaged
        self._average = TestTimeAveraging(lambda images: self.backbone.feature_maps(images)[-1], backbone.patch_size)
        self._fitted = False

    @abstractmethod
    def begin(self) -> None:
        """Forget what was collected and fitted."""

    @abstractmethod
    def collect(self, index: int, tokens: Tensor, counts: Tensor) -> None:
        """Take the patches of one training image: features `[h·w, D]`, labelled pixels per class `[C, h, w]`."""

    @abstractmethod
    def conclude(self) -> None:
        """Fit to what all ranks have collected; called on all of them together."""

    def maps(self, images: Tensor) -> Tensor:
        """Feature maps `[B, D, h, w]` of images `[B, 3, H, W]`."""
        if self.averaged:
            return self._average(images)
        (maps,) = self.backbone.feature_maps(images)
        return maps

    def train(self, mode: bool = True) -> FittedProbe:
        """Nothing trains."""
        return super().train(False)

    def configure_optimizers(self) -> None:
        """Nothing trains."""

    def setup(self, stage: str) -> None:
        """Forget an earlier run.

        Raises:
            UserError: If several processes are to fit, which DDP refuses a module without trainable parameters.
        """
        if stage == TrainerFn.FITTING and self.trainer.world_size > 1:
            raise UserError("a probe has nothing to fit by steps; use `validate` or `test` with several devices")
        self._fitted = False

    def training_step(self, batch: LabelledImages, batch_idx: int) -> None:
        """Nothing trains; the evaluation fits."""

    def on_validation_epoch_start(self) -> None:
        """Fit, begin counting."""
        super().on_validation_epoch_start()
        self._fit()

    def on_test_epoch_start(self) -> None:
        """Fit, begin counting."""
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
        data.setup("fit")  # an evaluation alone has not listed the training images
        self.begin()
        for batch in iterate_once(data.train_dataloader(), self, "reading the training images", share=True):
            with self.trainer.precision_plugin.forward_context():
                maps = self.maps(batch.images)
            counts = label_counts(batch.masks, (maps.shape[-2], maps.shape[-1]), self.num_classes, self.ignore_index)
            for index, features, patches in zip(batch.indices.tolist(), maps, counts, strict=True):
                self.collect(index, features.flatten(1).T, patches)
        self.conclude()
        self._fitted = True
