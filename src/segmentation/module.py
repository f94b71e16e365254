"""Segmentation on an adapted backbone as a LightningModule (docs/method.md, section 10).

Shapes: B images · D width · C classes · h×w patches · H×W pixels · h'×w' the head's own grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from datamodules.batches import SegmentationBatch
from src.backbones.adapters import Adapter
from src.backbones.backbone import Backbone
from src.backbones.identity import adapter_record
from src.backbones.images import check_range
from src.core.bfloat16 import warn_of_emulation
from src.core.distributed import logs_this_step, mean_of_ranks, ranks, sum_over_ranks
from src.core.errors import UserError
from src.core.numbers import LARGEST, check_number
from src.core.resizing import resize_scores
from src.core.schedules import linear, planned_steps, warmup_cosine
from src.evaluation.patch_labels import label_counts
from src.segmentation.decoders.decoder import Decoder
from src.segmentation.decoders.linear import LinearDecoder
from src.segmentation.evaluation_loop import ScoredSegmentation
from src.segmentation.feature_cache import CachedFeatures, FeatureBatch
from src.segmentation.inference import Inference, Size, Tile, Whole
from src.segmentation.param_groups import freeze_unreached, install_drop_path, parameter_groups


class SemanticSegmentation(ScoredSegmentation):
    """A segmentation head on the backbone's features, trained by pixel-wise cross-entropy.

    Defaults without a source are our choice: head only, lr 1e-3, a tenth of it for the backbone.

    Args:
        backbone: The ViT, with its adapter if it has one.
        num_classes: C.
        ignore_index: Ignore index of the masks.
        class_names: One per class; their ids if None.
        decoder: Builds the head for (backbone width, classes).
        train: Trainable parts: the head; the head and the backbone's adapters; everything.
        adapter: Installed as the identity in a backbone without one, so that a row without pre-training trains the same
            parameters as the others. Not for `train: head`, where it would stay the identity.
        loss_grid: Resolution of the loss: `pixels` (logits upsampled bilinearly), or `decoder`: on the head's own
            grid, against the label counts of each cell. The latter is the cross-entropy of logits upsampled by nearest
            neighbour, at a hundredth of its cost.
        cache_features: Compute the frozen features of each image once and train on them: epochs then cost seconds.
            In memory, on every rank; needs a data module without random transforms, and `train: head`.
        lr: Peak learning rate of the head.
        backbone_lr: Factor on it for adapters and backbone.
        layer_decay: Further factor on the rate per block towards the input (see `param_groups.parameter_groups`).
        drop_path: Probability of skipping a residual branch of the last block in training, decreasing linearly to 0 at
            the first block.
        weight_decay: Weight decay of matrices; none on biases, norms, scales, position embeddings and prefix tokens.
        schedule: `poly` (power 1.0, as the field's recipes) or `cosine`, from the peak to 0.
        warmup: Share of the steps in which the rate rises.
        boundary: Also measure boundary IoU, within this share of the image's diagonal (its paper uses 0.02).
        inference: Inference of logits in validation, test and prediction.

    Raises:
        UserError: If the arguments contradict one another, or the backbone lacks the adapters that should train.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        ignore_index: int = 255,
        class_names: list[str] | None = None,
        decoder: Callable[[int, int], Decoder] = LinearDecoder,
        train: Literal["head", "head+adapters", "everything"] = "head",
        adapter: Adapter | None = None,
        loss_grid: Literal["pixels", "decoder"] = "pixels",
        cache_features: bool = False,
        lr: float = 1e-3,
        backbone_lr: float = 0.1,
        layer_decay: float = 1.0,
        drop_path: float = 0.0,
        weight_decay: float = 0.01,
        schedule: Literal["poly", "cosine"] = "poly",
        warmup: float = 0.05,
        boundary: float | None = None,
        inference: Inference = Whole(),
    ) -> None:
        super().__init__(backbone, num_classes, ignore_index, class_names, boundary, inference)
        for name, value, most in (
            ("lr", lr, LARGEST),
            ("backbone_lr", backbone_lr, LARGEST),
            ("layer_decay", layer_decay, 1.0),
            ("weight_decay", weight_decay, LARGEST),
            ("warmup", warmup, 1.0),
        ):
            check_number(name, value, most=most)
        if cache_features and train != "head":
            raise UserError(f"cache_features keeps features as they are, but train is {train!r}: set one or the other")
        if adapter is not None and train == "head":
            raise UserError("adapter is given, but train is 'head': it would stay the identity; drop it")
        if train == "head" and (layer_decay != 1 or drop_path):
            raise UserError("layer_decay and drop_path act on a backbone that trains, but train is 'head': drop them")
        if adapter is not None and backbone.adapter is None:
            backbone.install(adapter)
            self.adapter_record = adapter_record(backbone, untouched=True)
        self.decoder = decoder(backbone.width, num_classes)
        self._range_seen = False
        self.trains = train
        self.loss_grid = loss_grid
        self.cache_features = cache_features
        self.lr = lr
        self.backbone_lr = backbone_lr
        self.layer_decay = layer_decay
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.warmup = warmup
        if drop_path:
            install_drop_path(backbone, drop_path)
        self._choose_what_trains()

    # ------------------------------------------------------------------------------------------ the training step

    def on_train_start(self) -> None:
        """Stop checking image values, which would synchronise with the device at each step."""
        self.backbone.checks_range = False
        self._range_seen = False

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Cross-entropy over all labelled pixels of the batch, on all ranks together."""
        maps = self.feature_maps(batch)
        if self.loss_grid == "pixels":
            logits = self.decoder(maps, tuple(batch.masks.shape[-2:]))
            total = F.cross_entropy(logits, batch.masks, ignore_index=self.ignore_index, reduction="sum")
            count = (batch.masks != self.ignore_index).sum()
        else:
            logits = self.decoder.classify(maps)
            counts = self.label_counts(batch, logits)
            logits = logits.to(torch.promote_types(logits.dtype, counts.dtype))  # float32 at least
            total = -(counts * logits.log_softmax(dim=1)).sum()
            count = counts.sum()
        loss = total * ranks() / sum_over_ranks(count).clamp_min(1)  # DDP's averaging divides by the ranks
        attached = self._trainer is not None and logs_this_step(self.trainer)
        shown = mean_of_ranks(loss) if attached else loss.detach()  # of the global batch where it is written
        self.log("train/loss", shown, prog_bar=True, batch_size=len(batch.names))
        return loss

    def class_scores(self, images: Tensor) -> Tensor:
        """Logits on the head's own grid, `[B, C, h', w']`."""
        return self.decoder.classify(
            self.backbone.feature_maps(images, self.decoder.blocks, self.decoder.prefix_tokens)
        )

    def tiles(self, batch: Any, sizes: list[Size], probabilities: bool) -> Iterator[Iterator[Tile]]:
        """Logits of each image at its size; with cached features, of the whole image."""
        if not isinstance(batch, FeatureBatch):
            return super().tiles(batch, sizes, probabilities)
        assert not probabilities  # features are cached in a fit, which predicts nothing
        logits = self.decoder.classify(batch.maps)
        pairs = zip(logits.split(1), sizes, strict=True)
        return (iter([Tile(0, 0, resize_scores(one, size)[0])]) for one, size in pairs)

    def feature_maps(self, batch: Any) -> list[Tensor]:
        """The head's input maps `[B, D, h, w]`, computed from images or taken from the cache."""
        if isinstance(batch, FeatureBatch):
            return batch.maps
        with torch.set_grad_enabled(self.trains != "head" and torch.is_grad_enabled()):
            return self.backbone.feature_maps(batch.images, self.decoder.blocks, self.decoder.prefix_tokens)

    def label_counts(self, batch: Any, logits: Tensor) -> Tensor:
        """Labelled pixels per class and cell of the logits' grid, `[B, C, h', w']`."""
        if isinstance(batch, FeatureBatch) and batch.counts is not None:
            return batch.counts
        return label_counts(batch.masks, (logits.shape[-2], logits.shape[-1]), self.num_classes, self.ignore_index)

    # ------------------------------------------------------------------------------------------------ what trains

    def _choose_what_trains(self) -> None:
        if self.trains == "head":
            self.backbone.requires_grad_(False).eval()
        elif self.trains == "everything":
            self.backbone.requires_grad_(True)
        elif not self.backbone.trainable():
            raise UserError(
                "train is 'head+adapters', but no adapter of the backbone trains; give the backbone an adapter file "
                "(backbone.init_args.adapter), or the model an adapter to start from the identity"
            )
        freeze_unreached(self.backbone, self.decoder.blocks, self.decoder.prefix_tokens)

    def adapter_installed(self) -> None:
        """Select the trainable parts, including a checkpoint's adapter."""
        self._choose_what_trains()

    def train(self, mode: bool = True) -> SemanticSegmentation:
        """Keep a frozen backbone in evaluation mode."""
        super().train(mode)
        if self.trains == "head":
            self.backbone.eval()
        return self

    def configure_optimizers(self) -> Optimizer:
        """AdamW; learning rates are set at each step."""
        groups = parameter_groups(self.decoder, self.backbone, self.backbone_lr, self.layer_decay, self.weight_decay)
        return torch.optim.AdamW(groups, lr=0.0)

    def peak_rate(self, batch: int) -> float:
        """Peak learning rate of the head, independent of the batch size."""
        return self.lr

    def on_train_batch_start(self, batch: SegmentationBatch | FeatureBatch, batch_idx: int) -> None:
        """Set this step's learning rate.

        Raises:
            UserError: If the values of the first batch's images are not RGB, or the fit has no planned end.
        """
        if not self._range_seen and not isinstance(batch, FeatureBatch):  # once: it synchronises with the device
            for images in batch.images if isinstance(batch.images, list) else [batch.images]:
                check_range(images)
        self._range_seen = True
        steps = planned_steps(self.trainer.estimated_stepping_batches)
        rate = self.lr * rate_factor(self.global_step, steps, self.warmup, self.schedule)
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = rate * group["lr_factor"]
        self.log("train/lr", rate)

    # --------------------------------------------------------------------------------------------- cached features

    def setup(self, stage: str) -> None:
        """Wrap the data module in the feature cache.

        Raises:
            UserError: If the precision makes AdamW divide by zero (its ε is 0 in float16); if features shall be cached
                and the data module is none or has random transforms, or inference is not that of whole images.
        """
        if stage == "fit" and self.trainer.precision == "16-true":
            raise UserError("trainer.precision 16-true ends in NaN with AdamW, whose ε is 0 in float16; use bf16-mixed")
        warn_of_emulation(self.trainer.precision, self.trainer.strategy.root_device.type)
        if stage != "fit" or not self.cache_features:
            return
        if not isinstance(self.inference, Whole) or self.inference.passes != [(1.0, False)]:
            raise UserError(
                "cache_features keeps the features of whole images, but inference would see other ones: leave "
                "inference out of the fit and give it to `test`, or set cache_features to false"
            )
        inner: LightningDataModule | None = self.trainer.datamodule  # type: ignore[attr-defined]
        if inner is None:
            raise UserError(
                "cache_features needs a data module; a loader alone does not tell whether its transforms are random"
            )
        self.trainer.datamodule = CachedFeatures(inner, self, self._cached)  # type: ignore[attr-defined]

    def _cached(self, batch: Any, training: bool) -> FeatureBatch:
        if isinstance(batch.images, list):
            raise UserError(
                "cache_features needs images of one size, but the data's evaluation is 'native': leave it out of the "
                "fit and give it to `test`, or set cache_features to false"
            )
        maps = self.feature_maps(batch)
        if not training or self.loss_grid == "pixels":
            return FeatureBatch(maps, batch.masks, None, batch.indices, batch.names)
        was_training = self.decoder.training
        scores = self.decoder.eval().classify(maps)  # in evaluation mode: running statistics are kept
        self.decoder.train(was_training)
        counts = self.label_counts(batch, scores)
        return FeatureBatch(maps, [], counts, batch.indices, batch.names)


def rate_factor(step: int, steps: int, warmup: float, schedule: Literal["poly", "cosine"]) -> float:
    """Fraction of the peak learning rate at a step: linear warm-up over a share `warmup`, then decay to 0."""
    rise = round(warmup * steps)
    if schedule == "cosine" or step < rise:
        return warmup_cosine(step, steps, rise, 1.0, 0.0)
    return linear(step - rise, steps - rise, 1.0, 0.0)
