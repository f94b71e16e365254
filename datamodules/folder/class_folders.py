"""Whole images with one class each: the data of image classification, in batches of images and labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from datamodules.base import Colour, DomainDataModule, Split
from datamodules.batches import collate_classes
from datamodules.reading.errors import ImageError
from datamodules.reading.listing import list_images
from datamodules.reading.masks import IGNORE
from datamodules.reading.sources import Source
from datamodules.scenes import ScenesDataModule
from src.core.colours import distinct_colours
from src.core.errors import MissingFile, UserError
from src.core.file_contents import paths_of


class Classified:
    """Images of another source, each with a class.

    Args:
        source: Source of the images.
        classes: The class of each; None takes the one that covers most of the image's mask.
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

    def pair(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Image and class, as the mask `[1, 1]` that a source gives with an image."""
        if self.classes is not None:
            return self.image(index), np.full((1, 1), self.classes[index], np.uint8)
        image, mask = self.source.pair(index)
        counts = np.bincount(mask[mask != IGNORE], minlength=1)
        return image, np.full((1, 1), counts.argmax(), np.uint8)

    def paths(self, index: int) -> tuple[Path, ...]:
        return paths_of(self.source, index)


class WholeImages(DomainDataModule):
    """Data of a classification: the task `segment` gives a `ClassificationBatch`."""

    def _loader(self, dataset: Any, batch: int, sampler: Any, collate: Any) -> DataLoader[Any]:
        if self.evaluation == "native":
            raise UserError("data.init_args.evaluation: whole images are classified resized; remove native")
        return super()._loader(dataset, batch, sampler, collate_classes if self.task == "segment" else collate)


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
                "set root to the folder above them"
            )
        found = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        if not 2 <= len(found) < IGNORE:
            raise ImageError(f"{folder}: expected 2 to {IGNORE - 1} folders, one for each class, found {len(found)}")
        return found

    @property
    def class_names(self) -> list[str]:
        return self._classes

    @property
    def palette(self) -> list[Colour]:
        return distinct_colours(self.num_classes)

    def read(self, split: Split) -> Source:
        folder = self.root / split
        if split == "val" and (unknown := {path.name for path in folder.iterdir() if path.is_dir()} - {*self._classes}):
            raise ImageError(f"{folder}: {', '.join(sorted(unknown))} is no class of {self.root / 'train'}")
        files = list_images(folder)
        names = [path.relative_to(folder).parts[0] for path in files]
        return Classified(self.files(self.root, files), [self._classes.index(name) for name in names])


class SceneClasses(WholeImages, ScenesDataModule):
    """Generated scenes, each with the class that covers most of it; arguments as there."""

    def read(self, split: Split) -> Source:
        return Classified(super().read(split))
