"""Layout of a user's folder of images and masks: split by folders, by lists, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from datamodules.base import Split
from datamodules.folder.split_lists import listed
from datamodules.reading.errors import ImageError, is_file, is_folder
from datamodules.reading.listing import IMAGE_SUFFIXES, list_images
from datamodules.reading.segmentation_folder import check_stems, with_masks
from datamodules.sampling.splits import holdout
from src.core.errors import MissingFile

NOT_IMAGES = frozenset({"masks"})
_MASKS_ELSEWHERE = ("annotations", "annotation", "labels", "label", "mask", "gt")  # other common names of the folder


class FolderLayout:
    """Reads the layout of a folder; see `FolderDataModule`.

    Args:
        root: The folder.
        masks: Folder with masks of some of the images, anywhere; None for masks of all of them in `root`.
    """

    def __init__(self, root: Path, masks: Path | None = None) -> None:
        self.root = root
        self.masks = masks

    @property
    def base(self) -> Path:
        """The folder of all images."""
        return self.root / "images" if is_folder(self.root / "images") else self.root

    @property
    def has_lists(self) -> bool:
        """True if files name the images of the splits."""
        return is_file(self.root / "train.txt")

    @property
    def has_split_folders(self) -> bool:
        """True if folders hold the images of the splits."""
        return not self.has_lists and is_folder(self.base / "train")

    def has(self, split: Split) -> bool:
        """Return whether the folder or the list of a split exists; both splits do where nothing splits the images."""
        if self.has_lists:
            return is_file(self.root / f"{split}.txt")
        return not self.has_split_folders or is_folder(self.image_folder(split))

    def image_folder(self, split: Split) -> Path:
        """The folder that image names of a split are relative to, when masks are looked for."""
        if not self.has_split_folders:
            return self.base
        parallel = self.root / split / "images"
        return parallel if is_folder(self.root / "train" / "images") else self.base / split

    def mask_folder(self, split: Split) -> Path:
        """The folder of the masks of a split, which need not exist."""
        if self.masks is not None:
            part = self.masks / split
            return part if self.has_split_folders and is_folder(part) else self.masks
        if not self.has_split_folders:
            return self.root / "masks"
        within = is_folder(self.root / "train" / "images")
        return self.root / split / "masks" if within else self.root / "masks" / split

    def masks_elsewhere(self) -> Path | None:
        """A folder of pictures that seems by its name to hold the masks, if the expected one is missing."""
        expected = self.mask_folder("train")
        if is_folder(self.root / "masks") or is_folder(expected):
            return None
        candidates = [place / name for place in (self.root, expected.parent) for name in _MASKS_ELSEWHERE]
        candidates.append(self.image_folder("train") / "masks")  # among the images
        return next((folder for folder in candidates if is_folder(folder) and _holds_images(folder)), None)

    def mask_files(self, ending: str) -> list[Path]:
        """All files in the folders of masks whose names, without suffix, have this ending; others are not masks."""
        folders = sorted({self.mask_folder("train"), self.mask_folder("val")})
        files = [path for folder in folders if is_folder(folder) for path in list_images(folder)]
        return [path for path in files if path.stem.endswith(ending)]

    def all_images(self, split: Split) -> list[Path]:
        """The images of a split; all of them where nothing splits them.

        Raises:
            MissingFile: If the folder or the list of the split is missing.
        """
        if not self.has(split):
            missing = self.root / f"{split}.txt" if self.has_lists else self.image_folder(split)
            kind = "list of images next to train.txt" if self.has_lists else "folder of images next to those of train"
            raise MissingFile(
                f"{missing}: expected a {kind}, found nothing; add it, or evaluate on a fifth of the training images "
                "with evaluate_on: holdout"
            )
        if self.has_lists:
            return self._listed(split)
        folder = self.image_folder(split)
        return self._without_masks(list_images(folder, exclude=NOT_IMAGES if folder == self.root else frozenset()))

    def images(self, split: Split) -> list[Path]:
        """The images of a split; where nothing splits them, a fixed fifth is `val`.

        Raises:
            MissingFile: If a folder or a list is missing.
            ImageError: If there are too few images to split, or a list names a missing file.
        """
        return self._part(split, self.all_images(split))

    def labelled(self, split: Split, ending: str) -> list[Path]:
        """The images of a split that should have a mask: those with one in `masks`, else all; see `images`."""
        return self._part(split, self._labelled(split, ending))

    def all_labelled(self, ending: str) -> dict[Split, list[Path]]:
        """The same of all splits together, by split; `train` alone where nothing splits the images.

        Args:
            ending: End of mask names, before the suffix.

        Raises:
            ImageError: If no image has a mask.
        """
        splits: tuple[Split, ...] = ("train", "val") if self.has_lists or self.has_split_folders else ("train",)
        there = [split for split in splits if self.has(split)]
        if self.masks is not None:  # of some images, perhaps of one split only
            there = [split for split in there if self._with_masks(split, ending)] or there[:1]
        return {split: self._labelled(split, ending) for split in there}

    def _labelled(self, split: Split, ending: str) -> list[Path]:
        images, masks = self.all_images(split), self.mask_folder(split)
        check_stems(images, self.image_folder(split))  # before some are held out for validation
        if self.masks is None:
            return images
        found = self._with_masks(split, ending)
        if not found:
            raise ImageError(
                f"{masks}: expected masks named like the images of {self.image_folder(split)}, with any suffix, found "
                f"none for its {len(images)} images, such as {images[0].name}; rename them, or set mask_ending"
            )
        return found

    def _with_masks(self, split: Split, ending: str) -> list[Path]:
        return with_masks(self.all_images(split), self.image_folder(split), self.mask_folder(split), ending)

    def _part(self, split: Split, files: list[Path]) -> list[Path]:
        if self.has_lists or self.has_split_folders:
            return files
        kept = set(holdout(len(files)))
        if not kept and split == "val":
            raise ImageError(
                f"{self.base}: expected 5 images or more to hold out a fifth for validation, found {len(files)}"
            )
        return [path for i, path in enumerate(files) if (i in kept) == (split == "val")]

    def _without_masks(self, files: list[Path]) -> list[Path]:
        """Leave out masks stored among the images."""
        if self.masks is None or not self.masks.resolve().is_relative_to(self.base.resolve()):
            return files
        return [path for path in files if not path.resolve().is_relative_to(self.masks.resolve())]

    def _listed(self, split: Split) -> list[Path]:
        """The images that the list of a split names; the other list is read too, to check that they share none.

        The other split is not kept: a name takes far more memory as an object than in a `Listing`.
        """
        splits: tuple[Split, ...] = ("train", "val")
        there = [one for one in splits if self.has(one)]
        lists = [self.root / f"{one}.txt" for one in there]
        images = self._without_masks(
            list_images(self.base, exclude=NOT_IMAGES if self.base == self.root else frozenset())
        )
        return listed(lists, images, (self.base, self.root))[there.index(split)]


def _holds_images(folder: Path) -> bool:
    return any(Path(file).suffix.lower() in IMAGE_SUFFIXES for _, _, files in os.walk(folder) for file in files)
