"""DomainDataModule: one class per data set, which serves both unlabelled views and labelled pairs."""

from __future__ import annotations

import copy
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from datamodules.batches import (
    LabelledPairs,
    SegmentationBatch,
    UnlabelledViews,
    collate_evaluation,
    collate_native,
    collate_training,
    collate_views,
)
from datamodules.reading.checking import OnError, usable
from datamodules.reading.listing import list_images
from datamodules.reading.masks import IGNORE
from datamodules.reading.sources import Concat, Files, Source, Subset, cache
from datamodules.sampling.monitor_sample import MonitorSample, bank_and_queries, fixed_views
from datamodules.sampling.resume_state import ResumeState
from datamodules.sampling.samplers import EpochSampler, EverySampleOnce, process
from datamodules.sampling.splits import holdout, nested_fraction, subsample
from datamodules.transforms.multi_crop import MultiViewCrop
from datamodules.transforms.segmentation import TrainingTransforms
from src.core.errors import UserError

logger = logging.getLogger(__name__)

__all__ = ["Colour", "DomainDataModule", "SegmentationBatch", "Split"]

Split = Literal["train", "val"]
Colour = tuple[int, int, int]

_SPLITS: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",), "test": ("val",), "predict": ()}


class DomainDataModule(LightningDataModule, ABC):
    """A data set for both stages.

    A subclass names its classes and gives the images of a split; all else is the same for every data set.

    Args:
        task: `pretrain`: `train_dataloader` yields `Crops` of all training images, masks unread. `segment`: all
            loaders yield `SegmentationBatch`.
        batch_size: Images per batch and process; the set's size, if that is smaller.
        size: Side of the global views; for `segment` the side, or (height, width), that images are resized to.
        local_views: Number of local views (`pretrain`).
        local_size: Side of the local views (`pretrain`).
        transforms: What training images and masks go through (`segment`); None only resizes them to `size`.
        evaluate_on: `val`, or `holdout`: a fixed fifth of the training images, which `segment` then does not train on.
            Settings are chosen on the latter.
        label_fraction: Share of the training images that `segment` trains on, drawn by `seed`; for one seed the 1 % lie
            inside the 10 %.
        extra: Further folders of images without labels, searched recursively, that `pretrain` sees besides the
            training images.
        on_error: What a file that cannot be used does: `raise`, at the first use; or `skip`, after one pass over all
            files at the start, which names and counts them.
        evaluation: Images to evaluate and to predict come `resized` to `size`, or at their `native` sizes, one at a
            time, for the model's inference to see as it likes.
        predict_on: Folder of images to predict, of any sizes and nesting; None for the data set's own.
        num_workers: Loader processes; 0 loads in the main process.
        seed: Seed of order, crops and colours.
        cache: Decode once and keep the images in memory, if they fit in 1 GiB.
        max_images: Images of the data set, `extra` not counted, that `pretrain` sees at most: a fixed draw that never
            depends on a run's seed, in which the 10 lie among the 30; all if None.
    """

    ignore_index = IGNORE

    def __init__(
        self,
        task: Literal["pretrain", "segment"] = "pretrain",
        batch_size: int = 16,
        size: int | tuple[int, int] = 224,
        local_views: int = 0,
        local_size: int = 96,
        transforms: TrainingTransforms | None = None,
        evaluate_on: Literal["val", "holdout"] = "val",
        label_fraction: float = 1.0,
        extra: list[Path] | None = None,
        on_error: OnError = "raise",
        evaluation: Literal["resized", "native"] = "resized",
        predict_on: Path | None = None,
        num_workers: int = 2,
        seed: int = 0,
        cache: bool = True,
        max_images: int | None = None,
    ) -> None:
        super().__init__()
        if task == "pretrain" and not isinstance(size, int):
            raise UserError(f"size: expected the side of a square view for pre-training, found {size}")
        if batch_size < 1:
            raise UserError(f"batch_size: expected at least 1, found {batch_size}")
        if not 0 < label_fraction <= 1:
            raise UserError(f"label_fraction: expected a share in (0, 1], found {label_fraction}")
        if max_images is not None and max_images < 1:
            raise UserError(f"max_images: expected at least 1, or null for all, found {max_images}")
        self.task = task
        self.batch_size = batch_size
        self.size = size
        self.local_views = local_views
        self.local_size = local_size
        self.transforms = transforms
        self.evaluate_on = evaluate_on
        self.label_fraction = label_fraction
        self.extra = [Path(folder) for folder in extra or ()]
        self.on_error = on_error
        self.evaluation = evaluation
        self.predict_on = predict_on
        self.num_workers = num_workers
        self.seed = seed
        self.cache = cache
        self.max_images = max_images
        self._sources: dict[Split, Source] = {}
        self._predicted: Source | None = None
        self._resume_state = ResumeState()

    @property
    @abstractmethod
    def class_names(self) -> list[str]:
        """Names of the classes, in id order."""

    @property
    @abstractmethod
    def palette(self) -> list[Colour]:
        """RGB colour of each class."""

    @property
    def ids(self) -> list[int]:
        """The id of each class in the data set's own mask files: what a predicted mask is written in."""
        return list(range(self.num_classes))

    @property
    def submission(self) -> bool:
        """Whether a benchmark's server takes what is predicted: a zip of masks without folders, ids 0, 1, …"""
        return False

    @property
    def num_classes(self) -> int:
        """Number of classes, ignored pixels not counted."""
        return len(self.class_names)

    @abstractmethod
    def read(self, split: Split) -> Source:
        """List the images of a split.

        Raises:
            MissingFile: If the data set is not there.
            ImageError: If it is not what it should be.
        """

    def read_predict(self) -> Source:
        """List the images that predictions are made for: the validation images, if the data set has no others."""
        return self.read("val")

    def source(self, split: Split) -> Source:
        """The images of a split, as the job uses them, from memory where they are cached."""
        if split not in self._sources:
            self._sources[split] = self._prepared(split)
        return self._sources[split]

    def setup(self, stage: str) -> None:
        """List the files before training starts, so that a wrong path is reported at once."""
        for split in _SPLITS[stage] if self.task == "segment" else ("train",):
            self.source(split)

    def train_dataloader(self) -> DataLoader[Any]:
        """Views or labelled pairs; epochs are shuffled, shared by the ranks, and resumed where they were left."""
        source = self.source("train")
        ranks = process()[1]
        batch = max(1, min(self.batch_size, len(source) // ranks))
        if batch < self.batch_size:
            logger.warning(
                "%d images for %d processes: batch size %d, not %d", len(source), ranks, batch, self.batch_size
            )
        sampler = EpochSampler(len(source), batch, self.seed, self._resume_state.consumed)
        if self.task == "pretrain":
            assert isinstance(self.size, int)
            crop = MultiViewCrop(self.size, self.local_views, self.local_size, self.seed)
            loader = self._loader(UnlabelledViews(source, crop), batch, sampler, collate_views)
        else:
            pairs = LabelledPairs(source, self._input_size, training=True, transforms=self.transforms, seed=self.seed)
            loader = self._loader(pairs, batch, sampler, collate_training)
        self._resume_state.follow(self.trainer, sampler, batch)
        return loader

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Every validation image once, masks at native size. Pre-training has none."""
        if self.task == "pretrain":
            return []
        return self._evaluation(self.source("val"))

    def test_dataloader(self) -> DataLoader[Any] | list[Any]:
        """The same images as validation."""
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader[Any]:
        """Every image to predict once; masks give the native sizes, ignored everywhere if there are none."""
        return self._evaluation(self.predict_source())

    def predict_source(self) -> Source:
        """The images to predict."""
        if self._predicted is None:
            folder = self.predict_on
            source = self.read_predict() if folder is None else Files(folder, list_images(folder))
            self._predicted = usable(source, labelled=True) if self.on_error == "skip" else source
        return self._predicted

    def predict_only(self, indices: Sequence[int]) -> None:
        """Predict these images and no others: `predict_source` is from now on this part of itself."""
        self._predicted = Subset(self.predict_source(), indices)

    def monitor_sample(self, images: int, labelled: int) -> MonitorSample:
        """The same training images in every run, to watch a pre-training on (`pretrain`).

        Masks are read where the data set has them, a third of them from the held-out fifth, never from `val`.

        Args:
            images: How many give two views each.
            labelled: How many come with their masks.
        """
        assert isinstance(self.size, int)
        labelling = copy.copy(self)
        labelling.task = "segment"
        bank, queries = bank_and_queries(lambda: labelling.read("train"), self.size, labelled)
        return MonitorSample(fixed_views(self.source("train"), self.size, images), bank, queries)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed fit needs to go on with the next sample, in the middle of an epoch if need be."""
        return {"samples": self._resume_state.consumed()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on after that many samples; the trainer calls this before it asks for the loader."""
        self._resume_state.restore(int(state_dict["samples"]))

    @property
    def _input_size(self) -> tuple[int, int]:
        return (self.size, self.size) if isinstance(self.size, int) else (self.size[0], self.size[1])

    def _prepared(self, split: Split) -> Source:
        source = self._labelled(split) if self.task == "segment" else self._unlabelled(split)
        if self.on_error == "skip":
            source = usable(source, labelled=self.task == "segment")
        if not self.cache:
            return source
        return cache(source, self.size if self.task == "pretrain" and isinstance(self.size, int) else None)

    def _labelled(self, split: Split) -> Source:
        if self.evaluate_on == "holdout":
            train = self.read("train")
            kept = holdout(len(train))
            source: Source = Subset(train, kept if split == "val" else sorted(set(range(len(train))) - set(kept)))
        else:
            source = self.read(split)
        if split == "val" or self.label_fraction == 1:
            return source
        return Subset(source, nested_fraction(len(source), self.label_fraction, self.seed))

    def _unlabelled(self, split: Split) -> Source:
        source = self.read(split)
        if self.max_images is not None and self.max_images < len(source):
            source = Subset(source, subsample(len(source), self.max_images))
        extra = [Files(folder, list_images(folder)) for folder in self.extra]
        return Concat([source, *extra]) if extra else source

    def _evaluation(self, source: Source) -> DataLoader[Any]:
        native = self.evaluation == "native"
        pairs = LabelledPairs(source, None if native else self._input_size, training=False)
        # images at their own sizes go through the network one by one: more at a time would only take memory
        collate = collate_native if native else collate_evaluation
        return self._loader(pairs, 1 if native else self.batch_size, EverySampleOnce(len(source)), collate)

    def _loader(self, dataset: Any, batch: int, sampler: Any, collate: Any) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size=batch,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_one_thread,
        )


def _one_thread(worker: int) -> None:
    """Workers share the cores among themselves; OpenCV would start a thread per core in each."""
    cv2.setNumThreads(0)
