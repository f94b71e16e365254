"""Dense nearest neighbours as a LightningModule: segmentation from frozen features with nothing learnt.

Shapes: B images · N = h·w patches of one image · D width · C classes.
"""

from __future__ import annotations

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from src.backbones.backbone import Backbone
from src.core.errors import UserError
from src.evaluation.dense_knn import DenseKNN
from src.evaluation.memory_bank import MemoryBank
from src.evaluation.patch_labels import label_counts
from src.segmentation.evaluation_loop import LabelledImages, ScoredSegmentation
from src.segmentation.inference import Inference, Whole
from src.segmentation.iterate_once import iterate_once


class NearestNeighbours(ScoredSegmentation):
    """Each patch takes the labels of the training patches most like it.

    Before an evaluation, the training images of the data module fill the bank, each once, also those that a training
    loader would drop with an incomplete last batch. `validate` and `test` therefore need no checkpoint and no fit; a
    `fit` of one epoch learns nothing and evaluates at its end.

    Args:
        backbone: Gives the features, as it is.
        num_classes: C.
        ignore_index: Id in masks that is no class.
        class_names: One per class; their ids if None.
        neighbours: k.
        temperature: Of the votes; 0.07 is our choice, published evaluations use 0.02 to 0.1.
        max_patches: Bound on the bank, beyond which a seeded random subset stays (see `MemoryBank`).
        seed: Of the subset.
        chunk: Similarities held at a time (see `DenseKNN`).
        boundary: Also measure boundary IoU, within this share of the image's diagonal (its paper takes 0.02).
        inference: How images become votes in validation, test and prediction.
    """

    needs_checkpoint = False

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        ignore_index: int = 255,
        class_names: list[str] | None = None,
        neighbours: int = 30,
        temperature: float = 0.07,
        max_patches: int = 2**18,
        seed: int = 0,
        chunk: int = 2**24,
        boundary: float | None = None,
        inference: Inference = Whole(),
    ) -> None:
        super().__init__(
            backbone.requires_grad_(False).eval(), num_classes, ignore_index, class_names, boundary, inference
        )
        self.automatic_optimization = False
        self.neighbours = neighbours
        self.temperature = temperature
        self.chunk = chunk
        self.bank = MemoryBank(max_patches, seed)
        self._classifier: DenseKNN | None = None

    def train(self, mode: bool = True) -> NearestNeighbours:
        """Nothing trains."""
        return super().train(False)

    def configure_optimizers(self) -> None:
        """Nothing trains."""

    def setup(self, stage: str) -> None:
        """Forget the bank of an earlier run.

        Raises:
            UserError: If several processes are to fit, which DDP refuses a module without trainable parameters.
        """
        if stage == TrainerFn.FITTING and self.trainer.world_size > 1:
            raise UserError("nearest neighbours have nothing to fit; use `validate` or `test` with several devices")
        self._classifier = None

    def training_step(self, batch: LabelledImages, batch_idx: int) -> None:
        """Nothing trains; the evaluation fills the bank."""

    def on_validation_epoch_start(self) -> None:
        """Fill the bank, begin counting."""
        super().on_validation_epoch_start()
        self._fill()

    def on_test_epoch_start(self) -> None:
        """Fill the bank, begin counting."""
        super().on_test_epoch_start()
        self._fill()

    def on_predict_epoch_start(self) -> None:
        """Fill the bank."""
        self._fill()

    def class_scores(self, images: Tensor) -> Tensor:
        """Votes `[B, C, h, w]`."""
        assert self._classifier is not None
        (maps,) = self.backbone.feature_maps(images)
        votes = self._classifier.votes(maps.flatten(2).transpose(1, 2).flatten(0, 1))  # [B·N, C]
        return votes.unflatten(0, (len(maps), *maps.shape[-2:])).permute(0, 3, 1, 2)

    def probabilities(self, scores: Tensor) -> Tensor:
        """Votes are shares already."""
        return scores

    @torch.no_grad()
    def _fill(self) -> None:
        if self._classifier is not None:
            return
        data: LightningDataModule | None = self.trainer.datamodule  # type: ignore[attr-defined]
        if data is None:
            raise UserError("nearest neighbours need a data module, whose training images fill the memory bank")
        data.setup("fit")  # an evaluation alone has not listed the training images
        self.bank.reset()
        for batch in iterate_once(data.train_dataloader(), self, "filling the memory bank", share=True):
            with self.trainer.precision_plugin.forward_context():
                (maps,) = self.backbone.feature_maps(batch.images)
            counts = label_counts(batch.masks, (maps.shape[-2], maps.shape[-1]), self.num_classes, self.ignore_index)
            for index, features, patches in zip(batch.indices.tolist(), maps, counts, strict=True):
                self.bank.add(index, features.flatten(1).T, patches)
        features, fractions = (tensor.to(self.device) for tensor in self.bank.gathered())
        self.bank.reset()  # the classifier holds the patches now
        self._classifier = DenseKNN(features, fractions, self.neighbours, self.temperature, self.chunk)
