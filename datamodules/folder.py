"""Your own images: a folder of them, with masks or without."""

from __future__ import annotations

import colorsys
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from datamodules.base import Colour, DomainDataModule, Split, held_out
from datamodules.checking import OnError, readable
from datamodules.images import ImageError, list_images, mask_ids
from datamodules.paired import pair_masks
from datamodules.sources import Files, Source
from datamodules.training_transforms import TrainingTransforms


class FolderDataModule(DomainDataModule):
    """Images of any folder, found recursively.

    Layout: images lie in `root/images` if there is such a folder, else in `root`. A folder `root/masks` beside them
    holds a mask of class ids for each image, at the same relative path, with any suffix. If the folder of images has
    the subfolders `train` and `val` (or `root/train/images`, `root/train/masks`, … exist), they are the splits; else
    every fifth image, by a draw that never changes, is kept for validation. Without masks nothing is kept:
    pre-training reads every image.

    Args:
        root: The folder.
        class_names: Names of ids 0, 1, …; None takes the ids that the masks hold, in order.
        ignored_ids: Ids that are no class.
        on_error: What a file that cannot be read does: `raise`, or `skip` it and count (pre-training; costs one pass
            over all files at the start).
        job: See `DomainDataModule`, as all that follow.
        batch_size: Images per batch and process.
        size: Side of the views, or (height, width) of the segmentation network's input.
        local_views: Number of local views.
        local_size: Side of the local views.
        transforms: What training images and masks go through.
        evaluate_on: `val` or `holdout`.
        workers: Loader processes.
        seed: Seed of all draws.
        cache: Keep decoded images in memory.
    """

    def __init__(
        self,
        root: Path,
        class_names: list[str] | None = None,
        ignored_ids: tuple[int, ...] = (255,),
        on_error: OnError = "raise",
        job: Literal["pretrain", "segment"] = "pretrain",
        batch_size: int = 16,
        size: int | tuple[int, int] = 224,
        local_views: int = 0,
        local_size: int = 96,
        transforms: TrainingTransforms | None = None,
        evaluate_on: Literal["val", "holdout"] = "val",
        workers: int = 2,
        seed: int = 0,
        cache: bool = True,
    ) -> None:
        super().__init__(job, batch_size, size, local_views, local_size, transforms, evaluate_on, workers, seed, cache)
        self.root = Path(root)
        self.given_names = class_names
        self.ignored_ids = ignored_ids
        self.on_error = on_error

    @property
    def class_names(self) -> list[str]:
        return self.given_names or [f"class {i}" for i in self.ids]

    @property
    def palette(self) -> list[Colour]:
        """Hues a golden angle apart, so that neighbours in id differ."""
        return [_colour(i) for i in range(self.num_classes)]

    @cached_property
    def ids(self) -> list[int]:
        """The id of each class in the mask files.

        Raises:
            ImageError: If neither names nor masks say what the classes are.
        """
        if self.given_names is not None:
            return [i for i in range(256) if i not in self.ignored_ids][: len(self.given_names)]
        masks = [path for folder in self._mask_folders() for path in list_images(folder)]
        if not masks:
            raise ImageError(f"{self.root}: expected masks that say what the classes are, found none; give class_names")
        with ThreadPoolExecutor() as threads:
            found = list(tqdm(threads.map(mask_ids, masks), "masks", len(masks), unit="file", delay=5, leave=False))
        return sorted(set().union(*found) - set(self.ignored_ids))

    def read(self, split: Split) -> Source:
        images, masks = self._folders(split)
        if self.job == "pretrain" and not masks.is_dir():
            return Files(self.root, readable(self._listed(images), self.on_error))
        files = self._listed(images)
        if not self._is_split:
            kept = set(held_out(len(files)))
            if not kept and split == "val":
                raise ImageError(
                    f"{images}: expected 5 images or more to keep a fifth for validation, found {len(files)}"
                )
            files = [path for i, path in enumerate(files) if (i in kept) == (split == "val")]
        if self.job == "pretrain":
            return Files(self.root, readable(files, self.on_error))
        if not masks.is_dir():
            raise FileNotFoundError(
                f"{masks}: expected a folder with a mask of class ids for each image of {images}, found nothing; "
                "without masks only job: pretrain and predict are possible"
            )
        labels = {i: c for c, i in enumerate(self.ids)} | dict.fromkeys(self.ignored_ids, self.ignore_index)
        return Files(self.root, files, pair_masks(files, images, masks), labels)

    def read_predict(self) -> Source:
        """The images of `val`, or all of them where the folder is not split; masks are not needed."""
        return Files(self.root, self._listed(self._folders("val")[0]))

    @property
    def _is_split(self) -> bool:
        return (self._base / "train").is_dir()

    @property
    def _base(self) -> Path:
        return self.root / "images" if (self.root / "images").is_dir() else self.root

    def _folders(self, split: Split) -> tuple[Path, Path]:
        """Where the images and the masks of a split lie."""
        if not self._is_split:
            return self._base, self.root / "masks"
        if (self.root / "train" / "images").is_dir():
            return self.root / split / "images", self.root / split / "masks"
        return self._base / split, self.root / "masks" / split

    def _mask_folders(self) -> list[Path]:
        folders = {self._folders("train")[1], self._folders("val")[1]}
        return sorted(folder for folder in folders if folder.is_dir())

    def _listed(self, folder: Path) -> list[Path]:
        return list_images(folder, exclude=frozenset({"masks"}) if folder == self.root else frozenset())


def _colour(index: int) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1.0, 0.65, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)
