"""Evaluation and prediction loop shared by every module that segments.

Shapes: B images · C classes · h'×w' grid of the class scores · h×w native size of one mask.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from src.backbones.backbone import Backbone
from src.backbones.frozen import frozen_buffers
from src.core.errors import Diverged
from src.evaluation.boundary import BoundaryPerImage, boundary_iou
from src.evaluation.confusion import ConfusionPerImage, ImageConfusions, Scores, check_names, scores_from_confusion
from src.segmentation.evaluation_files import by_class, log_evaluation, number, written_scores
from src.segmentation.inference import Inference, Network, Size, Tile, Whole
from src.segmentation.recorded_head import RecordedHead


class LabelledImages(Protocol):
    """A batch: `datamodules.base.SegmentationBatch`, or features in place of its images.

    Attributes:
        masks: For training int64 `[B, H, W]`; for evaluation a list of uint8 `[h, w]`, each of its native size.
        indices: int64 `[B]`, in the data set.
        names: One per image.
    """

    @property
    def masks(self) -> Any: ...
    @property
    def indices(self) -> Tensor: ...
    @property
    def names(self) -> list[str]: ...


class Prediction(NamedTuple):
    """Prediction for one image.

    Attributes:
        name: The image's.
        mask: Class of each pixel, uint8 `[h, w]`; int64 for more than 256 classes.
        probabilities: Probabilities of the classes, float16 `[C, h, w]` on the CPU; None unless asked for.
    """

    name: str
    mask: Tensor
    probabilities: Tensor | None = None


class ScoredSegmentation(RecordedHead, ABC):
    """Validates, tests and predicts on a backbone's features; a subclass defines the class scores of a batch.

    Predictions are made at each mask's native size: scores are upsampled to it, then the largest wins. Scores are those
    of one confusion matrix over the whole set, of all ranks together, each image once. Logged as `val/miou`,
    `val/accuracy`, `val/mean_accuracy`, `val/mean_dice`, `val/boundary_miou` if asked for, `val/iou/<class>`
    (`test/…` in a test; a class in neither truth nor prediction is left out), and written to the run folder
    (`trainer.default_root_dir`) after each evaluation, replacing the previous files:

    - `evaluation.json`: stage, step, these means; IoU, accuracy, Dice and boundary IoU per class (null where there is
      nothing to measure), classes without a pixel in the masks (`absent`), class names, number of images;
    - `confusion.npz`: `names` and `matrices`, int64 `[images, C, C]` as [truth, prediction].

    Checkpoints hold no frozen tensors except the adapter's, and record their weights, adapter and classes
    (`src.segmentation.head_checkpoint`). In validation, test and prediction the adapter comes from the checkpoint.

    Args:
        backbone: Gives the features.
        num_classes: C.
        ignore_index: Ignore index of the masks.
        class_names: One per class; their ids if None.
        boundary: Also measure boundary IoU, within this share of the image's diagonal (its paper uses 0.02).
        inference: Inference of scores in validation, test and prediction.

    Attributes:
        needs_checkpoint: True if the command line refuses to evaluate or predict without a checkpoint, for trained
            modules.
        predicts_probabilities: True if `predict_step` also returns probabilities; set by the callback that writes them.

    Raises:
        UserError: If there are not as many names as classes, or two are the same.
    """

    needs_checkpoint: ClassVar[bool] = True

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        ignore_index: int = 255,
        class_names: list[str] | None = None,
        boundary: float | None = None,
        inference: Inference = Whole(),
    ) -> None:
        super().__init__(backbone)
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.class_names = check_names(num_classes, class_names)
        self.inference = inference
        self.predicts_probabilities = False
        self._finite = torch.tensor(True)  # True if all class scores were finite since the last reset
        self.confusion = ConfusionPerImage(num_classes, ignore_index)
        self.boundary = None if boundary is None else BoundaryPerImage(num_classes, ignore_index, boundary)

    @abstractmethod
    def class_scores(self, images: Tensor) -> Tensor:
        """Scores `[B, C, h', w']`, at any resolution, of images `[B, 3, H, W]`; the largest is the class."""

    def probabilities(self, scores: Tensor) -> Tensor:
        """Convert scores `[B, C, …]` to class probabilities: the softmax of logits."""
        return scores.softmax(dim=1)

    def tiles(self, batch: Any, sizes: list[Size], probabilities: bool) -> Iterator[Iterator[Tile]]:
        """Scores of each image of a batch at its size, tile by tile."""
        network = Network(self.class_scores, self.probabilities, self.backbone.patch_size)
        return self.inference.tiles(network, batch.images, sizes, probabilities)

    def validation_step(self, batch: LabelledImages, batch_idx: int) -> None:
        """Count the batch."""
        self._count(batch)

    def test_step(self, batch: LabelledImages, batch_idx: int) -> None:
        """Count the batch."""
        self._count(batch)

    def predict_step(self, batch: LabelledImages, batch_idx: int) -> list[Prediction]:
        """Class ids of each image, at its mask's native size.

        Raises:
            Diverged: If scores are NaN or infinite.
        """
        of_evaluation = self._finite  # pictures are predicted at the end of a validation, before its own check
        self._finite = torch.tensor(True, device=self.device)
        predictions = list(self._predictions(batch, self.predicts_probabilities))
        self._check_finite()
        self._finite = of_evaluation
        return predictions

    def on_validation_epoch_start(self) -> None:
        """Reset the counts."""
        self._reset()

    def on_test_epoch_start(self) -> None:
        """Reset the counts."""
        self._reset()

    def on_validation_epoch_end(self) -> None:
        """Log and write the scores."""
        self._report("val")

    def on_test_epoch_end(self) -> None:
        """Log and write the scores."""
        self._report("test")

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> list[str]:
        return frozen_buffers(self)

    def _predictions(self, batch: LabelledImages, probabilities: bool = False) -> Iterator[Prediction]:
        sizes = [(mask.shape[-2], mask.shape[-1]) for mask in batch.masks]
        images = zip(batch.names, batch.masks, self.tiles(batch, sizes, probabilities), strict=True)
        for name, truth, tiles in images:  # one at a time: sizes differ, and full-size scores are large
            mask = torch.empty_like(truth, dtype=torch.uint8 if self.num_classes <= 256 else torch.int64)
            shares = torch.empty(self.num_classes, *truth.shape, dtype=torch.float16) if probabilities else None
            for top, left, scores in tiles:
                self._finite &= scores.isfinite().all().to(self._finite.device)  # read once, at the end
                place = (slice(top, top + scores.shape[-2]), slice(left, left + scores.shape[-1]))
                mask[place] = scores.argmax(dim=0)
                if shares is not None:
                    shares[:, *place] = scores.to("cpu", torch.float16)
            yield Prediction(name, mask, shares)

    def _check_finite(self) -> None:
        if not self._finite:
            raise Diverged(
                "the model's class scores hold NaN or infinite values, so no scores or masks are written; fit again "
                "with a lower learning rate, or set trainer.precision to bf16-mixed or 32-true"
            )

    def _reset(self) -> None:
        self._finite = torch.tensor(True, device=self.device)
        self.confusion.reset()
        if self.boundary is not None:
            self.boundary.reset()

    def _count(self, batch: LabelledImages) -> None:
        images = zip(batch.indices.tolist(), self._predictions(batch), batch.masks, strict=True)
        for index, (name, prediction, _), mask in images:
            self.confusion.update(index, name, prediction, mask)
            if self.boundary is not None:
                self.boundary.update(index, prediction, mask)

    def _report(self, stage: str) -> None:
        if self.trainer.sanity_checking:
            return
        self._check_finite()
        images = self.confusion.gathered()
        scores = scores_from_confusion(images.matrices.sum(dim=0))
        evaluation = self._evaluation(scores, images)
        if self.trainer.is_global_zero:
            images.save(Path(self.trainer.default_root_dir) / "confusion.npz")
        log_evaluation(self, stage, evaluation)

    def _evaluation(self, scores: Scores, images: ImageConfusions) -> dict[str, Any]:
        outlines: dict[str, Any] = {}
        if self.boundary is not None:
            iou = boundary_iou(self.boundary.gathered())  # on every rank
            outlines = {
                "boundary_miou": number(float(iou.nanmean())),
                "boundary_iou": by_class(iou, self.class_names),
                "boundary_share": self.boundary.share,
            }
        return {**written_scores(scores, self.class_names), **outlines, "images": len(images.names)}
