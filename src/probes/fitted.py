"""Segment by a probe fitted to the training images' patches.

Shapes: B images · D width · h×w patches of one image · C classes.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor

from src.backbones.backbone import Backbone
from src.evaluation.patch_labels import label_counts
from src.evaluation.test_time_averaging import TestTimeAveraging
from src.probes.fitting import FittedModule
from src.segmentation.evaluation_loop import ScoredSegmentation
from src.segmentation.inference import Inference, Whole


class FittedProbe(FittedModule, ScoredSegmentation):
    """Base of the segmentation probes; see `FittedModule`.

    Args:
        backbone: Gives the features; not trained.
        num_classes: C.
        ignore_index: Ignore index of the masks.
        class_names: One per class; their ids if None.
        boundary: Also measure boundary IoU, within this share of the image's diagonal (its paper uses 0.02).
        inference: Inference of scores in validation, test and prediction.
        averaged: Average the features over flips and three scales (`TestTimeAveraging`): the gain without training,
            with which an adapted backbone is compared (docs/method.md, section 11).
    """

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
        super().__init__(backbone, num_classes, ignore_index, class_names, boundary, inference)
        self.averaged = averaged
        self._average = TestTimeAveraging(lambda images: self.backbone.feature_maps(images)[-1], backbone.patch_size)

    @abstractmethod
    def collect(self, index: int, tokens: Tensor, counts: Tensor) -> None:
        """Add the patches of one training image: features `[h·w, D]`, labelled pixels per class `[C, h, w]`."""

    def maps(self, images: Tensor) -> Tensor:
        """Feature maps `[B, D, h, w]` of images `[B, 3, H, W]`."""
        if self.averaged:
            return self._average(images)
        (maps,) = self.backbone.feature_maps(images)
        return maps

    def see(self, batch: Any) -> None:
        """Collect the patches of each image."""
        with self.trainer.precision_plugin.forward_context():
            maps = self.maps(batch.images)
        counts = label_counts(batch.masks, (maps.shape[-2], maps.shape[-1]), self.num_classes, self.ignore_index)
        for index, features, patches in zip(batch.indices.tolist(), maps, counts, strict=True):
            self.collect(index, features.flatten(1).T, patches)
