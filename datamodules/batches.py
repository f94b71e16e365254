"""Samples and batches: unlabelled views for pre-training, labelled pairs for segmentation.

Shapes: V views · B images · S side of a view · h, w native size · H, W size of the network's input.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.reading.sources import Source
from datamodules.transforms.multi_crop import MultiViewCrop, View, resize_crop
from datamodules.transforms.segmentation import TrainingTransforms
from datamodules.views import Crops, Views
from src.core.printable import printable


class SegmentationBatch(NamedTuple):
    """Labelled images.

    Attributes:
        images: uint8 `[B, 3, H, W]`; where evaluation is `native` a list of `[3, h, w]`, or of images whose short side
            is that of training.
        masks: For training int64 `[B, H, W]`; for evaluation a list of uint8 `[h, w]`, each of its native size.
        indices: int64 `[B]`, in the data set.
        names: One per image.
    """

    images: Tensor | list[Tensor]
    masks: Tensor | list[Tensor]
    indices: Tensor
    names: list[str]


class ClassificationBatch(NamedTuple):
    """Whole images with one class each.

    Attributes:
        images: uint8 `[B, 3, H, W]`.
        labels: int64 `[B]`.
        indices: int64 `[B]`, in the data set.
        names: One per image.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    names: list[str]


class ViewSample(NamedTuple):
    """The views of one image."""

    global_views: list[View]
    local_views: list[View]
    sample: int
    epoch: int


class PairSample(NamedTuple):
    """One labelled image: uint8 `[3, H, W]`; int64 `[H, W]` for training, else uint8 `[h, w]`."""

    image: Tensor
    mask: Tensor
    sample: int
    name: str


class ClassSample(NamedTuple):
    """One image and its class: uint8 `[3, H, W]`, an id."""

    image: Tensor
    label: int
    sample: int
    name: str


class UnlabelledViews(Dataset[ViewSample]):
    """Images as views. Indexed with (epoch, index), or with an index alone for the first epoch.

    Args:
        source: Images.
        crop: Cuts the views.
    """

    def __init__(self, source: Source, crop: MultiViewCrop) -> None:
        self.source = source
        self.crop = crop
        self.warned = torch.zeros(1, dtype=torch.bool).share_memory_()  # one warning over all workers

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int] | int) -> ViewSample:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        image = self.source.image(index)
        if min(image.shape[:2]) < self.crop.size and not self.warned:
            self.warned.fill_(True)
            warnings.warn(
                f"{printable(self.source.name(index))}: {image.shape[1]}×{image.shape[0]} is smaller than a view of "
                f"{self.crop.size} pixels; this and any other small image is enlarged",
                stacklevel=2,
            )
        return ViewSample(*self.crop(image, epoch, index), sample=index, epoch=epoch)


class LabelledPairs(Dataset[PairSample]):
    """Images and masks. Indexed with (epoch, index), or with an index alone for the first epoch.

    Args:
        source: Images and masks.
        size: (H, W) of the network's input: images are resized to it, bicubic. None leaves them as they are.
        training: Masks are resized to (H, W) too, nearest; for evaluation they keep their native size.
        transforms: Transforms of training images and masks, in place of resizing; training only.
        seed: The run's seed.
        short_side: Without a size, images are resized so that their short side is this long; evaluation only.
    """

    def __init__(
        self,
        source: Source,
        size: tuple[int, int] | None,
        training: bool,
        transforms: TrainingTransforms | None = None,
        seed: int = 0,
        short_side: int | None = None,
    ) -> None:
        assert training or transforms is None
        assert short_side is None or not training
        assert size is not None or not training
        self.source = source
        self.size = size
        self.training = training
        self.transforms = transforms
        self.seed = seed
        self.short_side = short_side

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int] | int) -> PairSample:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        image, mask = self.source.pair(index)
        if self.transforms is not None:
            image, mask = self.transforms(image, mask, np.random.default_rng([self.seed, epoch, index]))
        elif self.size is not None:
            image = resize_crop(Image.fromarray(image), (0, 0, *image.shape[:2]), self.size)
            mask = resize_mask(mask, self.size) if self.training else mask
        elif self.short_side is not None:
            size = size_of_short_side((image.shape[0], image.shape[1]), self.short_side)
            image = resize_crop(Image.fromarray(image), (0, 0, *image.shape[:2]), size)
        # the loss needs int64; for evaluation uint8 suffices, at an eighth of the memory
        classes = np.require(mask, np.int64 if self.training else np.uint8, ["C", "W"])
        return PairSample(_channels_first(image), torch.from_numpy(classes), index, self.source.name(index))


def size_of_short_side(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """(height, width) of an image that is resized so that its short side has this many pixels."""
    factor = short_side / min(size)
    return round(size[0] * factor), round(size[1] * factor)


def resize_mask(mask: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize classes to (height, width) by the nearest pixel, which adds no new class."""
    return np.asarray(cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8)


def collate_views(samples: Sequence[ViewSample]) -> Crops:
    """Stack the views of several images."""
    return Crops(
        global_views=_stack([sample.global_views for sample in samples]),
        local_views=_stack([sample.local_views for sample in samples]) if samples[0].local_views else None,
        indices=torch.tensor([sample.sample for sample in samples]),
        epoch=torch.tensor([sample.epoch for sample in samples]),
    )


def collate_training(samples: Sequence[PairSample]) -> SegmentationBatch:
    """Stack images and masks, which share one size."""
    return _pairs(samples, torch.stack([sample.mask for sample in samples]))


def collate_evaluation(samples: Sequence[PairSample]) -> SegmentationBatch:
    """Stack images; masks keep their native sizes."""
    return _pairs(samples, [sample.mask for sample in samples])


def collate_classes(samples: Sequence[ClassSample]) -> ClassificationBatch:
    """Stack images and classes."""
    return ClassificationBatch(
        images=torch.stack([sample.image for sample in samples]),
        labels=torch.tensor([sample.label for sample in samples]),
        indices=torch.tensor([sample.sample for sample in samples]),
        names=[sample.name for sample in samples],
    )


def collate_native(samples: Sequence[PairSample]) -> SegmentationBatch:
    """Images and masks keep their native sizes."""
    return _pairs(samples, [sample.mask for sample in samples], native=True)


def _pairs(samples: Sequence[PairSample], masks: Tensor | list[Tensor], native: bool = False) -> SegmentationBatch:
    images = [sample.image for sample in samples]
    return SegmentationBatch(
        images=images if native else torch.stack(images),
        masks=masks,
        indices=torch.tensor([sample.sample for sample in samples]),
        names=[sample.name for sample in samples],
    )


def _stack(views: Sequence[Sequence[View]]) -> Views:
    by_view = list(zip(*views, strict=True))  # [B][V] → [V][B]
    images = np.stack([[view.image for view in row] for row in by_view])  # [V, B, S, S, 3]
    return Views(
        images=torch.from_numpy(np.ascontiguousarray(images.transpose(0, 1, 4, 2, 3))),
        boxes=torch.tensor([[view.box for view in row] for row in by_view], dtype=torch.float32),
        flips=torch.tensor([[view.flip for view in row] for row in by_view]),
    )


def resized(image: NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
    """Return RGB `[h, w, 3]` as uint8 `[3, H, W]` of the size (H, W), bicubic."""
    return _channels_first(resize_crop(Image.fromarray(image), (0, 0, *image.shape[:2]), size))


def _channels_first(image: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
