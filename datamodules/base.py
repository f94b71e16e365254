"""Base class of all data modules: unlabelled views for pre-training and labelled pairs for segmentation."""

from __future__ import annotations

import copy
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from datamodules.arguments import DataArguments
from datamodules.batches import (
    LabelledPairs,
    SegmentationBatch,
    UnlabelledViews,
    collate_evaluation,
    collate_native,
    collate_training,
    collate_views,
)
from datamodules.known_classes import KnownClasses
from datamodules.reading.checking import usable
from datamodules.reading.fingerprint import fingerprint
from datamodules.reading.left_out import left_out
from datamodules.reading.listing import list_images
from datamodules.reading.masks import IGNORE
from datamodules.reading.reduction import sufficient_side
from datamodules.reading.sources import Concat, Files, Source, Subset, cache
from datamodules.sampling.clean_views import clean_views
from datamodules.sampling.monitor_sample import MonitorSample, bank_and_queries, fixed_views
from datamodules.sampling.resume_state import ResumeState
from datamodules.sampling.samplers import EpochSampler, EverySampleOnce
from datamodules.sampling.splits import nested_fraction, split_holdout, subsample
from datamodules.shared_memory import fitting_workers
from datamodules.transforms.device_colours import DeviceColours
from datamodules.transforms.multi_crop import MultiViewCrop
from datamodules.views import Crops
from src.core.colours import Colour
from src.core.distributed import process, share_of_batch
from src.core.printable import printable

logger = logging.getLogger(__name__)

__all__ = ["Colour", "DomainDataModule", "SegmentationBatch", "Split"]

Split = Literal["train", "val"]

_SPLITS: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",), "test": ("val",), "predict": ()}


class DomainDataModule(DataArguments, KnownClasses, LightningDataModule, ABC):
    """A data set for both stages.

    A subclass names its classes and gives the images of a split; the rest is the same for every data set. Its arguments
    are those of `DataArguments`; a subclass with its own takes these as `**shared`.
    """

    ignore_index = IGNORE
    resumes = False  # whether a fit resumes from a checkpoint; set by the command line

    def __post_init__(self) -> None:
        super().__post_init__()
        self._listed: dict[Split, Source] = {}
        self._sources: dict[Split, Source] = {}
        self._predicted: Source | None = None
        self._resume_state = ResumeState()

    @abstractmethod
    def read(self, split: Split) -> Source:
        """List the images of a split.

        Raises:
            MissingFile: If the data set is not there.
            ImageError: If it is incomplete or inconsistent.
        """

    def read_predict(self) -> Source:
        """List the images that predictions are made for: the validation images, if the data set has no others."""
        return self.read("val")

    def files(
        self,
        root: Path,
        images: Sequence[Path],
        masks: Sequence[Path] | None = None,
        labels: Mapping[int, int] | None = None,
    ) -> Files:
        """Image files, with masks or without, stretched and reduced as the arguments say; see `Files`."""
        return Files(root, images, masks, labels, self.stretch, self.reduction)

    def source(self, split: Split) -> Source:
        """The images of a split, as the job uses them, from memory where they are cached."""
        if split not in self._sources:
            self._sources[split] = self._prepared(split)
            self._listed.pop(split)
        return self._sources[split]

    def setup(self, stage: str) -> None:
        """List the files of all splits, so that a wrong path is reported before any image is decoded."""
        splits: tuple[Split, ...] = _SPLITS[stage] if self.task == "segment" else ("train",)
        for split in splits:
            self._list(split)
        for split in splits:
            self.source(split)

    def fingerprint(self) -> str:
        """Describe the images of this run, which must be the same in all processes."""
        return fingerprint(list(self._sources.values()))

    def train_dataloader(self) -> DataLoader[Any]:
        """Views or labelled pairs; epochs are shuffled, shared by the ranks, and resume where they stopped."""
        source = self.source("train")
        ranks = process()[1]
        batch = max(1, min(self._share, len(source) // ranks))  # of this process
        if batch * ranks < self.batch_size:
            logger.warning(
                "%d images for %d processes: using batch size %d instead of %d",
                len(source),
                ranks,
                batch * ranks,
                self.batch_size,
            )
        sampler = EpochSampler(len(source), batch, self.seed, self._resume_state.consumed)
        if self.task == "pretrain":
            assert isinstance(self.size, int)
            crop = MultiViewCrop(
                self.size,
                self.local_views,
                self.local_size,
                self.seed,
                photometric=self.colours == "loader",
                global_crops_scale=self.global_crops_scale,
            )
            loader = self._loader(UnlabelledViews(source, crop), batch, sampler, collate_views)
        else:
            pairs = LabelledPairs(source, self._input_size, training=True, transforms=self.transforms, seed=self.seed)
            loader = self._loader(pairs, batch, sampler, collate_training)
        self._resume_state.follow(self.trainer, sampler, batch, source)
        return loader

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Apply the colour augmentation that the loader left out."""
        if self.task == "pretrain" and self.colours == "device" and isinstance(batch, Crops):
            return DeviceColours(self.seed)(batch)
        return batch

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Every validation image once, masks at native size. Pre-training has none."""
        if self.task == "pretrain":
            return []
        return self._evaluation(self.source("val"))

    def ordered_dataloader(self, split: Split) -> DataLoader[Any]:
        """Every labelled image of a split once, in order, as validation sees it (`segment`)."""
        return self._evaluation(self.source(split))

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
            source = self.read_predict() if folder is None else self._whole_folder(folder)
            self._predicted = usable(source, labelled=True) if self.on_error == "skip" else source
        return self._predicted

    def predict_only(self, indices: Sequence[int]) -> None:
        """Predict only these images: from now on `predict_source` is this subset of itself."""
        self._predicted = Subset(self.predict_source(), indices)

    def monitor_sample(self, images: int, labelled: int) -> MonitorSample:
        """The same images in every run, to monitor a pre-training with (`pretrain`): held-out ones where there are any.

        Masks are read where the data set has them, a third of them from the held-out fifth, never from `val`.

        Args:
            images: Number of images that give two views each.
            labelled: Number of images with their masks.
        """
        assert isinstance(self.size, int)
        labelling = copy.copy(self)
        labelling.task = "segment"
        bank, queries = bank_and_queries(lambda: labelling.read("train"), self.size, labelled)
        held = self.held_out_source()
        views = fixed_views(held or self.source("train"), self.size, images, self.global_crops_scale)
        return MonitorSample(views, bank, queries)

    def held_out_source(self) -> Source | None:
        """The images that `max_images` keeps from `pretrain`; None where it keeps fewer than two."""
        source = self.read("train")
        if self.max_images is None or len(source) < self.max_images + 2:
            return None
        seen = set(subsample(len(source), self.max_images))
        held = Subset(source, [index for index in range(len(source)) if index not in seen])
        return usable(held, labelled=False) if self.on_error == "skip" else held

    def clean_views(self, images: int) -> DataLoader[Any]:
        """Two views of each of about `images` training images, without colour changes, as `Crops` (`pretrain`)."""
        assert isinstance(self.size, int)
        source = self.source("train")
        return clean_views(source, self.size, images, self.seed, self.num_workers, self.global_crops_scale)

    def state_dict(self) -> dict[str, Any]:
        """State from which a resumed fit continues with the next sample, in the middle of an epoch if need be."""
        return self._resume_state.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue after that many samples; the trainer calls this before it asks for the loader."""
        self._resume_state.restore(state_dict)

    @property
    def _share(self) -> int:
        """Images per batch of this process; only for training must the processes share them evenly."""
        if self.trainer is not None and self.trainer.state.fn == "fit":
            return share_of_batch(self.batch_size)
        return max(1, self.batch_size // process()[1])

    @property
    def _input_size(self) -> tuple[int, int]:
        return (self.size, self.size) if isinstance(self.size, int) else (self.size[0], self.size[1])

    def _list(self, split: Split) -> Source:
        """The images of a split, not decoded yet."""
        if split not in self._listed:
            self._listed[split] = self._labelled(split) if self.task == "segment" else self._unlabelled(split)
        return self._listed[split]

    def _prepared(self, split: Split) -> Source:
        source = self._list(split)
        if self.on_error == "skip":
            source = usable(source, labelled=self.task == "segment")
        if not self.cache:
            return source
        if self.task == "segment" or not isinstance(self.size, int):
            return cache(source)
        return cache(source, sufficient_side(self.size, self.global_crops_scale[0]))

    def _labelled(self, split: Split) -> Source:
        if self.evaluate_on == "holdout":
            train = self.read("train")
            rest, kept = split_holdout(len(train))
            source: Source = Subset(train, kept if split == "val" else rest)
        else:
            source = self.read(split)
        if split == "val" or self.label_fraction == 1:
            return source
        return Subset(source, nested_fraction(len(source), self.label_fraction, self.seed))

    def _unlabelled(self, split: Split) -> Source:
        source = self.read(split)
        if self.max_images is not None and self.max_images < len(source):
            source = Subset(source, subsample(len(source), self.max_images))
        extra = [self.files(Path(folder), list_images(Path(folder))) for folder in self.extra or ()]
        return Concat([source, *extra]) if extra else source

    def _whole_folder(self, folder: Path) -> Source:
        images = list_images(folder)
        if others := left_out(folder, images):
            logger.warning("%s", printable(f"{folder}: predicting {len(images)} images; left out: {others}"))
        return self.files(folder, images)

    def _evaluation(self, source: Source) -> DataLoader[Any]:
        native = self.evaluation == "native"
        short_side = self.transforms.short_side if native and self.transforms is not None else None
        pairs = LabelledPairs(source, None if native else self._input_size, training=False, short_side=short_side)
        # images at their own sizes go through the network one by one: a batch would only take memory
        collate = collate_native if native else collate_evaluation
        return self._loader(pairs, 1 if native else self._share, EverySampleOnce(len(source)), collate)

    def _loader(self, dataset: Any, batch: int, sampler: Any, collate: Any) -> DataLoader[Any]:
        num_workers = fitting_workers(lambda: dataset[0], batch, self.num_workers, self.prefetch_factor)
        return DataLoader(
            dataset,
            batch_size=batch,
            sampler=sampler,
            num_workers=num_workers,
            collate_fn=collate,
            persistent_workers=num_workers > 0,
            prefetch_factor=self.prefetch_factor if num_workers > 0 else None,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_one_thread,
        )


def _one_thread(worker: int) -> None:
    """Workers share the cores among themselves; OpenCV would start a thread per core in each."""
    cv2.setNumThreads(0)
