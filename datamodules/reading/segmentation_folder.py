"""Labelled data sets stored as image and mask files, in any layout."""

from __future__ import annotations

import unicodedata
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from datamodules.base import Colour, DomainDataModule, Split
from datamodules.reading.checking import OnError
from datamodules.reading.errors import ImageError
from datamodules.reading.listing import list_images
from datamodules.reading.sources import Source
from src.core.errors import MissingFile


class SegmentationFolder(DomainDataModule):
    """A labelled data set below one folder. A subclass defines its classes and the location of a split's files.

    Args:
        root: Folder that holds the data set; its layout is the subclass's.
        shared: See `DataArguments`.
    """

    CLASSES: ClassVar[dict[str, Colour]]
    """Name → colour, in the order of the classes."""
    LABELS: ClassVar[dict[int, int]]
    """Id in the mask files → class, or `IGNORE`; any other id is an error."""
    LAYOUT: ClassVar[str]
    """Expected layout, for the error that another folder raises."""

    def __init__(self, root: Path, **shared: Any) -> None:
        super().__init__(**shared)
        self.root = Path(root)

    @property
    def class_names(self) -> list[str]:
        return list(self.CLASSES)

    @property
    def ids(self) -> list[int]:
        return [min(i for i, c in self.LABELS.items() if c == k) for k in range(self.num_classes)]

    @property
    def palette(self) -> list[Colour]:
        return list(self.CLASSES.values())

    @abstractmethod
    def images(self, split: Split) -> list[Path]:
        """The image files of a split, in an order that never changes.

        Raises:
            MissingFile: If the data set is not there.
            ImageError: If it is incomplete or inconsistent.
        """

    @abstractmethod
    def masks(self, split: Split, images: list[Path]) -> list[Path]:
        """The mask file of each image.

        Raises:
            FileNotFoundError, ImageError: As `images`.
        """

    def labels(self, split: Split) -> dict[int, int]:
        """The class of each id in the masks of a split."""
        return self.LABELS

    def read(self, split: Split) -> Source:
        images = self.images(split)
        if self.task == "pretrain":
            return self.files(self.root, images)
        return self.files(self.root, images, self.masks(split, images), self.labels(split))

    def listed(self, folder: Path) -> list[Path]:
        """The images below a folder of the data set.

        Raises:
            MissingFile: If there is none, with the expected layout.
        """
        if not folder.is_dir():
            place = folder.relative_to(self.root)
            raise MissingFile(f"{self.root}: expected {self.LAYOUT}, found no {place}; set root to their parent folder")
        return list_images(folder)


def pair_masks(
    images: list[Path],
    image_folder: Path,
    mask_folder: Path,
    image_ending: str = "",
    mask_ending: str = "",
    on_error: OnError = "raise",
) -> list[Path]:
    """Find the mask of each image: the same path below the other folder, with any suffix.

    Args:
        images: Files below `image_folder`.
        image_folder: Image folder of a split.
        mask_folder: Mask folder of the same split.
        image_ending: Ending of image names before their suffix, which masks lack: `_leftImg8bit`.
        mask_ending: The ending of mask names instead; files without it are not masks.
        on_error: `skip` gives an image without a mask, or with several, the path of a missing file, so that it is
            skipped and counted with the unreadable ones.

    Raises:
        MissingFile: If there is no folder of masks.
        ImageError: With an image that has no mask, or several, unless these are skipped; or with two images that would
            share one.
    """
    if not mask_folder.is_dir():
        raise MissingFile(f"{mask_folder}: expected the folder of masks for {image_folder}, found nothing")
    by_stem: dict[str, list[Path]] = {}
    for path in list_images(mask_folder):
        stem = _stem(path, mask_folder)
        if stem.endswith(mask_ending):
            by_stem.setdefault(stem.removesuffix(mask_ending), []).append(path)
    masks: list[Path] = []
    check_stems(images, image_folder)
    for image in images:
        stem = _stem(image, image_folder).removesuffix(image_ending)
        found = by_stem.get(stem, [])
        expected = mask_folder / f"{stem}{mask_ending}.png"
        if len(found) != 1 and on_error == "raise":
            names = ", ".join(path.name for path in found) or "none"
            raise ImageError(f"{image}: expected one mask {expected}, found {names}; add it or remove the image")
        masks.append(found[0] if len(found) == 1 else expected.with_suffix(".*" if found else ".png"))
    return masks


def check_stems(images: list[Path], image_folder: Path) -> None:
    """Check that no two images share a mask because their names differ only in the suffix.

    Raises:
        ImageError: With two that do.
    """
    owners: dict[str, Path] = {}
    for image in images:
        if (other := owners.setdefault(_stem(image, image_folder), image)) != image:
            raise ImageError(
                f"{image}: expected a mask of its own, found that of {other.name}, whose name differs only in the "
                "suffix; remove or rename one of the two"
            )


def with_masks(images: list[Path], image_folder: Path, mask_folder: Path, mask_ending: str = "") -> list[Path]:
    """Select the images that have a mask, in their order; see `pair_masks`.

    Raises:
        MissingFile: If there is no folder of masks.
        ImageError: If it holds no picture.
    """
    stems = {_stem(path, mask_folder) for path in list_images(mask_folder)}
    return [path for path in images if f"{_stem(path, image_folder)}{mask_ending}" in stems]


def _stem(path: Path, folder: Path) -> str:
    """Path below a folder without its suffix, with composed letters: macOS writes ä as two characters."""
    return unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())
