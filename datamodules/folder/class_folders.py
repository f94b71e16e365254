"""Whole images with one class each: the data of image classification, in batches of images and labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from datamodules.base import DomainDataModule, Split
from datamodules.batches import ClassSample, collate_classes, resized
from datamodules.reading.errors import ImageError
from datamodules.reading.listing import list_images
from datamodules.reading.masks import IGNORE
from datamodules.reading.sources import Source
from datamodules.sampling.monitor_sample import MonitorSample
from datamodules.scenes import ScenesDataModule
from src.core.errors import MissingFile, UserError
from src.core.file_contents import paths_of


class Classified:
    """Images of another source, each with a class.

    Args:
        source: Source of the images.
        classes: The class of each; None takes the class that covers most of the image's mask.
    """

    def __init__(self, source: Source, classes: Sequence[int] | None = None) -> None:
        self.source = source
        self.classes = classes

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        return self.source.name(index)

    def image(self, index: int) -> NDArray[np.uint8]:
        return self.source.image(index)

    def paths(self, index: int) -> tuple[Path, ...]:
        return paths_of(self.source, index)

    def pair(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Image and its class, a single number `[]`."""
        if self.classes is not None:
            return self.image(index), np.asarray(self.classes[index], np.uint8)
        image, mask = self.source.pair(index)
        counts = np.bincount(mask[mask != IGNORE], minlength=1)
        return image, np.asarray(counts.argmax(), np.uint8)


class ClassifiedImages(Dataset[ClassSample]):
    """Images resized to the network's input, and their classes. Indexed with (epoch, index), or with an index alone.

    Args:
        source: Images and classes, as `Classified` gives them.
        size: (H, W) of the network's input.
    """

    def __init__(self, source: Source, size: tuple[int, int]) -> None:
        self.source = source
        self.size = size

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int] | int) -> ClassSample:
        index = key[1] if isinstance(key, tuple) else key
        image, label = self.source.pair(index)
        return ClassSample(resized(image, self.size), int(label), index, self.source.name(index))

    def paths(self, index: int) -> tuple[Path, ...]:
        return paths_of(self.source, index)


class WholeImages(DomainDataModule):
    """Data of a classification: the task `segment` gives a `ClassificationBatch`."""

    def monitor_sample(self, images: int, labelled: int) -> MonitorSample:
        """The sample of `DomainDataModule`, without labelled images: the class of a whole image is not a mask."""
        return super().monitor_sample(images, 0)

    def _loader(self, dataset: Any, batch: int, sampler: Any, collate: Any) -> DataLoader[Any]:
        if self.task == "pretrain":
            return super()._loader(dataset, batch, sampler, collate)
        if self.evaluation == "native":
            raise UserError(
                "data.init_args.evaluation: expected resized, since classification resizes whole images, found "
                "native; remove it"
            )
        if self.transforms is not None:
            raise UserError(
                "data.init_args.transforms: expected none, since classification uses images as they are; remove "
                "transforms"
            )
        return super()._loader(ClassifiedImages(dataset.source, self._input_size), batch, sampler, collate_classes)


class ClassFolders(WholeImages):
    """Images in one folder per class: `root/train/<class>/…` and `root/val/<class>/…`, at any depth below.

    Args:
        root: Folder that holds `train` and `val`.
        shared: See `DataArguments`; the task `segment` is the classification.
    """

    def __init__(self, root: Path, **shared: Any) -> None:
        super().__init__(**shared)
        self.root = Path(root)

    @cached_property
    def _classes(self) -> list[str]:
        folder = self.root / "train"
        if not folder.is_dir():
            raise MissingFile(
                f"{self.root}: expected the folders train/<class> and val/<class>, found no train; "
                "set root to their parent folder"
            )
        found = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        if not 2 <= len(found) < IGNORE:
            raise ImageError(f"{folder}: expected 2 to {IGNORE - 1} folders, one for each class, found {len(found)}")
        return found

    @property
    def class_names(self) -> list[str]:
        return self._classes

    def read(self, split: Split) -> Source:
        folder = self.root / split
        files = list_images(folder)
        names = [path.relative_to(folder).parts[0] for path in files]
        if unknown := sorted({*names} - {*self._classes}):
            raise ImageError(
                f"{folder}: expected images in folders of the classes in {self.root / 'train'}, found "
                f"{len(unknown)} other, such as {unknown[0]}"
            )
        return Classified(self.files(self.root, files), [self._classes.index(name) for name in names])


class SceneClasses(WholeImages, ScenesDataModule):
    """Generated scenes, each with the class that covers most of it; arguments as in `ScenesDataModule`."""

    def read(self, split: Split) -> Source:
        return Classified(super().read(split))
